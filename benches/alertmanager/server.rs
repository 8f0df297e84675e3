//! The servers that are measured: started on a free port with fresh data, killed, started again.

use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(2);

/// A program that takes alerts.
pub(crate) struct Peer {
    kind: Kind,
    program: PathBuf,
    /// Its name and version.
    pub(crate) version: String,
}

/// Which program it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Ours.
    Watchkeeper,
    /// Theirs.
    Alertmanager,
}

impl Peer {
    /// The daemon of this source, as it is built with the benchmark.
    pub(crate) fn watchkeeper() -> anyhow::Result<Self> {
        Self::find(Kind::Watchkeeper, env!("CARGO_BIN_EXE_watchkeeper").into())
    }

    /// An Alertmanager that is installed.
    pub(crate) fn alertmanager(program: &Path) -> anyhow::Result<Self> {
        Self::find(Kind::Alertmanager, program.to_owned())
    }

    fn find(kind: Kind, program: PathBuf) -> anyhow::Result<Self> {
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| {
            format!("cannot run `{}`; tests/run installs an Alertmanager", program.display())
        })?;
        let text = [output.stdout, output.stderr].concat();
        let first = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
        let version = first.split(" (").next().unwrap_or_default().replace(", version", "");
        Ok(Self { kind, program, version })
    }

    /// Which program it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Watchkeeper => "Watchkeeper",
            Kind::Alertmanager => "Alertmanager",
        }
    }

    /// Default settings and the shipped rules for us; for Alertmanager one route that groups by
    /// name and service, as our rules group by service, and no cluster.
    fn command(&self, folder: &Path, address: SocketAddr, sink: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Watchkeeper => {
                let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
                command.arg("serve").arg("--listen").arg(address.to_string());
                command.arg("--data").arg(folder.join("data")).arg("--rules").arg(rules);
                // Not where a `watchkeeper.yaml` of somebody's lies about.
                command.current_dir(folder);
            }
            Kind::Alertmanager => {
                let configuration = folder.join("alertmanager.yml");
                fs::write(&configuration, alertmanager_configuration(sink))?;
                command.arg(format!("--config.file={}", configuration.display()));
                command.arg(format!("--storage.path={}", folder.join("data").display()));
                command.arg(format!("--web.listen-address={address}"));
                command.arg("--cluster.listen-address=");
            }
        }
        Ok(command)
    }
}

fn alertmanager_configuration(sink: &str) -> String {
    format!(
        "
route:
  receiver: sink
  group_by: [alertname, service]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
receivers:
  - name: sink
    webhook_configs: [{{url: 'http://{sink}/'}}]
"
    )
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A peer that runs; killed when this is dropped.
pub(crate) struct Running<'a> {
    /// Which one.
    pub(crate) peer: &'a Peer,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: &'a Path,
    sink: &'a str,
    child: Child,
}

impl<'a> Running<'a> {
    /// Starts a peer on the data in a folder, if there is any, and waits until it is ready.
    pub(crate) fn start(peer: &'a Peer, folder: &'a Path, sink: &'a str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let child = spawn(peer.command(folder, address, sink)?, folder)?;
        let mut running = Self { peer, address, folder, sink, child };
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it in the hardest way, starts it again on the same data, and tells how long it took
    /// from the start until it was ready.
    pub(crate) fn kill_and_restart(&mut self) -> anyhow::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let begin = Instant::now();
        let command = self.peer.command(self.folder, self.address, self.sink)?;
        self.child = spawn(command, self.folder)?;
        self.wait_until_ready()?;
        Ok(begin.elapsed())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !is_ready(self.address).unwrap_or(false) {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("`{}` ended: {status}\n{log}", self.peer.name());
            }
            if begin.elapsed() > READY_WITHIN {
                bail!("`{}` is not ready within {READY_WITHIN:?}", self.peer.name());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(mut command: Command, folder: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let log_too = log.try_clone()?;
    Ok(command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn()?)
}

fn is_ready(address: SocketAddr) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /-/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}
