//! A real Chromium without a window, driven over a pipe in its own debugging protocol.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the browser may take for one answer; far more than it takes on an idle machine.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// How long it may take to end.
const END_MAX: Duration = Duration::from_secs(5);

/// What keeps it to itself: no window, no sandbox (tests may run as root), no talk to anybody.
const OPTIONS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--remote-debugging-pipe",
];

/// A browser with one page.
pub(crate) struct Chromium {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    session: String,
    asked: u64,
    complaints: Vec<String>,
    _folder: TempDir,
}

impl Chromium {
    /// Starts it with an empty page.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        // It reads its orders from descriptor 3 and answers on 4; a shell puts our pipes there.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh", "chromium"])
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let messages = read_messages(BufReader::new(child.stdout.take().unwrap()));
        let (session, complaints) = (String::new(), Vec::new());
        let mut browser =
            Self { child, input, messages, session, asked: 0, complaints, _folder: folder };
        let page = browser.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", &attach)["sessionId"].clone();
        session.as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Sends an order and waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut order = json!({"id": self.asked, "method": method, "params": parameters});
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        let input = self.input.as_mut().unwrap();
        input.write_all(order.to_string().as_bytes()).unwrap();
        input.write_all(b"\0").unwrap();
        input.flush().unwrap();
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.unwrap_or_else(|it| panic!("chromium, {method}: {it}"));
            if message["id"] == self.asked {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.complaints.extend(complaint(&message));
        }
    }

    /// Opens an address.
    pub(crate) fn open(&mut self, address: &str) {
        let answer = self.ask("Page.navigate", &json!({"url": address}));
        assert!(answer["errorText"].is_null(), "{address}: {answer}");
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let order = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", &order);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    pub(crate) fn wait_until(&mut self, expression: &str, within: Duration) {
        let deadline = Instant::now() + within;
        while self.value(&format!("Boolean({expression})")) != true {
            if Instant::now() > deadline {
                let text = self.value("document.body.innerText");
                panic!("not within {within:?}: {expression}; the page says {text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows the page with a colour scheme (`light` or `dark`) in a window of a width.
    pub(crate) fn look(&mut self, scheme: &str, width: u32) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.ask("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the page did wrong so far: errors on its console, and violations of its policy.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // An answer comes after whatever was said before it.
        self.value("new Promise((done) => setTimeout(done, 50))");
        std::mem::take(&mut self.complaints)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends when its pipe is closed.
        drop(self.input.take());
        let deadline = Instant::now() + END_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(self.child.kill());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads messages, each with a zero byte at its end, as they come.
fn read_messages(mut from: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = sync_channel(1000);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while from.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
            bytes.pop();
            let message = serde_json::from_slice(&bytes).unwrap();
            bytes.clear();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What a message says that is wrong, if it does.
fn complaint(message: &Value) -> Option<String> {
    let params = &message["params"];
    let is_bad = match message["method"].as_str()? {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => matches!(params["type"].as_str(), Some("error" | "warning")),
        "Log.entryAdded" => {
            matches!(params["entry"]["level"].as_str(), Some("error" | "warning"))
        }
        _ => false,
    };
    is_bad.then(|| params.to_string())
}
