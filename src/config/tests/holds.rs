//! What is wrong with time intervals, inhibitions and maintenance windows is found.

use super::{compare, findings};

#[test]
fn what_is_wrong_with_a_hold_is_found_with_its_place() {
    let interval =
        |text: &str| format!("time_intervals:\n  - {{name: a, time_intervals: [{{{text}}}]}}\n");
    let window =
        |text: &str| format!("maintenance:\n  - {{name: a, owner: o, reason: r, {text}}}\n");
    let freeze = |text: &str| format!("freezes:\n  - {{name: a, {text}}}\n");
    let time = "starts_at: 2099-01-01T00:00:00Z, ends_at: 2099-01-02T00:00:00Z";
    let inhibition =
        |text: &str| format!("inhibitions:\n  - {{name: a, source_matchers: ['a=b'], {text}}}\n");
    let cases: [(&str, &str); _] = [
        (&interval("weekdays: [mon]"), "WK0106 2:44"),
        (&interval("weekdays: ['saturday:sunday']"), "WK0106 2:44"),
        (&interval("days_of_month: ['0']"), "WK0106 2:49"),
        (&interval("times: [{start_time: '9:00', end_time: '10:00'}]"), "WK0114 2:54"),
        (&interval("times: [{start_time: '22:00', end_time: '06:00'}]"), "WK0114 2:41"),
        (&interval("times: [{start_time: '22:00'}]"), "WK0104 2:41"),
        (&interval("location: Local"), "WK0118 2:43"),
        (&interval("weekday: [monday]"), "WK0103 2:33"),
        (&window("matchers: ['a=b']"), "WK0104 2:5"),
        (&window("matchers: [], time_intervals: []"), "WK0104 2:5|WK0106 2:46"),
        (&window("matchers: ['a=b'], time_intervals: [x]"), "WK0110 2:72"),
        (
            &window(
                "matchers: ['a=b'], starts_at: 2099-01-02T00:00:00Z, ends_at: 2099-01-01T00:00:00Z",
            ),
            "WK0114 2:97",
        ),
        (&freeze(time), ""),
        (&freeze("items: [x]"), "WK0104 2:5"),
        (&freeze("starts_at: 2099-01-01T00:00:00Z, time_intervals: [x]"), "WK0110 2:65"),
        (&freeze("starts_at: 2099-01-01T00:00, ends_at: 2099-01-02T00:00:00Z"), "WK0114 2:26"),
        (
            &freeze(
                "time_zone: Nowhere, starts_at: 2099-01-01T00:00, ends_at: 2099-01-02T00:00:00Z",
            ),
            "WK0118 2:26",
        ),
        (
            &freeze("starts_at: 2099-01-02T00:00:00Z, ends_at: 2099-01-02T01:00:00+02:00"),
            "WK0114 2:57",
        ),
        (&freeze("starts_at: 2001-01-01T00:00:00Z, ends_at: 2001-01-02T00:00:00Z"), "WK0201 2:57"),
        (&freeze(&format!("{time}, items: []")), "WK0106 2:86"),
        (&freeze(&format!("{time}, allow: [emergancy]")), "WK0106 2:87"),
        (&freeze(&format!("{time}, matchers: [x]")), "WK0111 2:90"),
        (&freeze(&format!("{time}, item: [x]")), "WK0103 2:79"),
        (&inhibition("target_matchers: []"), "WK0106 2:58"),
        (&inhibition("equal: [a]"), "WK0104 2:5"),
        (&inhibition("target_matchers: ['c=d'], equal: {a: x, b: x}"), "WK0106 2:74"),
    ];
    compare(&cases, findings);
}

#[test]
fn a_topology_is_read_strictly_and_needs_a_catalog() {
    let rule = |text: &str| {
        format!(
            "inhibitions:\n  - {{name: a, source_matchers: ['a=b'], target_matchers: ['c=d'], \
             topology: {text}}}\n"
        )
    };
    let item = "---\napiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: x}\n";
    let cases: [(&str, &str); _] = [
        (&(rule("{relation: depends_on, max_hops: 2}") + item), ""),
        (&(rule("{}") + item), ""),
        (&rule("{}"), "WK0202 2:12"),
        (&rule("{relation: calls}"), "WK0106 2:88"),
        (&rule("{max_hops: 11}"), "WK0106 2:88"),
        (&rule("{hops: 1}"), "WK0103 2:78"),
        (&rule("depends_on"), "WK0105 2:77"),
    ];
    compare(&cases, findings);
}
