//! The evidence by which an alert found its incident, in sentences and points.

use super::{Stage, length};
use crate::domain::correlation::{Evidence, Lesson, Taught, Way};
use crate::domain::incident::Symptom;

/// Why the evidence led to that incident.
pub(super) fn enough(evidence: &Evidence) -> String {
    format!("{}: {} points, and {} are enough", seen(evidence), evidence.points, evidence.needed)
}

/// Why no incident had enough of it.
pub(super) fn too_little(nearest: Option<&Evidence>) -> String {
    nearest.map_or_else(
        || {
            "nothing that is open was seen at its place, or where a fault could come from"
                .to_owned()
        },
        |it| {
            let (points, needed) = (it.points, it.needed);
            format!("the nearest was {}: {}, {points} points of {needed}", it.incident, seen(it))
        },
    )
}

/// What else the alert could have joined.
pub(super) fn alternative(evidence: &Evidence) -> Option<String> {
    let (incident, points) = evidence.runner_up?;
    let lost = evidence.points.saturating_sub(points);
    Some(format!("{incident} came next with {points} points, {lost} less"))
}

/// Adds each piece of evidence with its points, which add up to the sum.
pub(super) fn pieces(stage: Stage, evidence: &Evidence) -> Stage {
    let points = |it: u64| i32::try_from(it).unwrap_or(i32::MAX);
    let loss = |before: u64, after: u64| -points(before.saturating_sub(after));
    let Evidence { at_once, after_gap, after_over, after_experience, .. } = *evidence;
    let over = format!("its alerts were over for {}", length(evidence.over_seconds));
    let gap = format!("{} passed since", length(evidence.gap_seconds));
    let experience = "as far as alerts of these names were no mere coincidence so far";
    let before_lesson = evidence.taught.as_ref().map_or(evidence.points, |it| it.points_before);
    let stage = stage
        .evidence(evidence.way.as_str(), points(at_once), seen(evidence))
        .evidence("gap", loss(at_once, after_gap), gap)
        .evidence("over", loss(after_gap, after_over), over)
        .evidence("experience", loss(after_over, after_experience), experience)
        .evidence(
            "severity",
            loss(after_experience, before_lesson),
            "what is only for information says less",
        );
    match &evidence.taught {
        Some(taught) => {
            let change = points(evidence.points) - points(taught.points_before);
            stage.evidence("taught", change, lesson(taught))
        }
        None => stage,
    }
}

/// What people taught, in words.
fn lesson(taught: &Taught) -> String {
    let Lesson { one, other, by, at, incident, belong } = &taught.lesson;
    let kind = |it: &Symptom| format!("`{}` of `{}`", it.alertname, it.place);
    let (one, other) = (kind(one), kind(other));
    let what = if *belong { "joined" } else { "parted" };
    let left = taught.left / 10;
    format!("{by} {what} {one} and {other} in {incident} at {at}; {left} % of that lesson is left")
}

/// Where the incident was seen, and how that concerns the alert.
fn seen(evidence: &Evidence) -> String {
    let Evidence { incident, place, alert, .. } = evidence;
    let before = length(evidence.gap_seconds);
    let how = match evidence.way {
        Way::SameItem => format!("it speaks of `{place}` too"),
        Way::SameHost => format!("it speaks of the machine `{place}` too"),
        Way::SameZone => format!("it is in `{place}`"),
        Way::DependsOn => format!("its service depends on `{place}`"),
        Way::DependsOnFarther => {
            format!("its service depends on something that depends on `{place}`")
        }
        Way::DependsOnResident => {
            format!("its service depends on something that runs on `{place}`")
        }
        Way::NeededBy => format!("`{place}` depends on its service"),
        Way::FiredAfter => format!("it often was in trouble after `{place}`, as was learned"),
        Way::SameMoment => {
            return format!(
                "it came {before} after the alert {alert} of {incident}, and no catalog tells what \
                 depends on what"
            );
        }
        Way::SamePart => format!("it speaks of the same part of `{place}`, where it still fires"),
    };
    format!("{how}, and {incident} was seen there {before} before, by the alert {alert}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::IncidentId;
    use crate::domain::label::Fingerprint;

    #[test]
    fn pieces_add_up_to_the_points() {
        let evidence = Evidence {
            incident: IncidentId(4),
            way: Way::DependsOn,
            place: "cart-db".to_owned(),
            alert: Fingerprint(10),
            gap_seconds: 75,
            at_once: 700,
            after_gap: 525,
            over_seconds: 3,
            after_over: 510,
            after_experience: 500,
            points: 350,
            taught: None,
            needed: 270,
            runner_up: Some((IncidentId(3), 90)),
        };
        let stage = pieces(Stage::new("correlate", ""), &evidence);
        let sum: i32 = stage.evidence.iter().map(|it| it.points).sum();
        assert_eq!(sum, 350);
        let symptom = |it: &str| Symptom { alertname: it.to_owned(), place: "cart".to_owned() };
        let lesson = Lesson {
            one: symptom("Slow"),
            other: symptom("Down"),
            belong: false,
            by: "ann".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            incident: IncidentId(1),
        };
        let taught = Some(Box::new(Taught { lesson, left: 900, points_before: 350 }));
        let parted = Evidence { taught, points: 35, ..evidence.clone() };
        let stage = pieces(Stage::new("correlate", ""), &parted);
        let sum: i32 = stage.evidence.iter().map(|it| it.points).sum();
        assert_eq!(sum, 35);
        let told = &stage.evidence.last().unwrap().detail;
        assert!(told.contains("ann parted `Slow` of `cart`") && told.contains("90 %"), "{told}");
        let text = enough(&evidence);
        for part in ["depends on `cart-db`", "INC-4", "75 s", "350 points"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let next = alternative(&evidence).unwrap();
        assert!(next.contains("INC-3") && next.contains("260 less"), "{next}");
    }
}
