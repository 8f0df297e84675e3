//! A catalog in Backstage's format: untidy labels find their service, the terminal shows what needs what.

use crate::support::{Daemon, firing};

const CATALOG: &str = "
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: web}
spec: {type: website, owner: group:default/shop, dependsOn: [component:default/cart-api, nothing]}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: cart-api}
spec: {type: service, owner: group:default/shop, dependsOn: [resource:default/node-1]}
---
apiVersion: backstage.io/v1alpha1
kind: Resource
metadata: {name: node-1, labels: {zone: eu-1a}}
spec: {type: host, owner: platform}
---
";

#[test]
fn untidy_labels_find_their_service() {
    // A broken reference is a warning: the daemon starts all the same.
    let daemon = Daemon::start(CATALOG);
    let printed = daemon.cli(&["doctor"]);
    assert!(printed.stdout.contains("none; 3 items are known"), "{printed:?}");
    let pod =
        [("alertname", "Slow"), ("pod", "cart-api-5d4f9c7b8-x2x4q"), ("instance", "node-1:9100")];
    daemon.deliver(&[firing(&pod), firing(&[("alertname", "Odd"), ("pod", "other-0")])]);
    let services: Vec<String> =
        daemon.items("/api/v1/incidents").iter().map(|it| it["services"].to_string()).collect();
    assert!(services.contains(&"[\"cart-api\"]".to_owned()), "{services:?}");

    let printed = daemon.cli(&["service", "list", "--firing"]);
    assert!(printed.stdout.contains("cart-api") && !printed.stdout.contains("web"), "{printed:?}");
    let graph = daemon.cli(&["service", "graph", "cart-api"]);
    for part in
        ["! 1 alert INC-", "needs\n`- node-1 (host, platform) ! 1 alert", "`- web (website, shop)"]
    {
        assert!(graph.stdout.contains(part), "{part} is not in {}", graph.stdout);
    }
    assert!(
        daemon.cli(&["service", "graph"]).stdout.starts_with("web (website, shop)\n`- cart-api")
    );
    let shown = daemon.cli(&["service", "show", "resource:default/node-1", "-o", "json"]);
    assert!(shown.stdout.contains("\"zone\": \"eu-1a\""), "{shown:?}");
    assert_eq!(daemon.cli(&["service", "show", "nobody"]).code, 1);

    let printed = daemon.cli(&["doctor"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stdout.contains("1 speak of no item") && printed.stdout.contains("Odd"));
}
