// The page's program: reads the API, shows it as text, and sends a person's decisions.
"use strict";

const byId = (id) => document.getElementById(id);
const STALE_AFTER = 20000;
const POLL_EVERY = 2000;
const INCIDENTS_MAX = 200;
let heardAt = 0;
let reading = false;
let readAgain = false;
let readFailed = false;

// --- Talking to the daemon ---

function token() {
  return sessionStorage.getItem("token");
}

async function call(path, body) {
  const headers = {};
  if (token()) headers.authorization = "Bearer " + token();
  const options = { headers, signal: AbortSignal.timeout(15000) };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    options.method = "POST";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  if (response.status === 401) {
    sessionStorage.removeItem("token");
    byId("login").hidden = false;
    byId("board").hidden = true;
  }
  const value = await response.json().catch(() => null);
  if (!response.ok) {
    const error = (value && value.error) || {};
    const hint = error.hint ? " (" + error.hint + ")" : "";
    throw new Error((error.message || "status " + response.status) + hint);
  }
  return value;
}

async function read() {
  if (reading) {
    readAgain = true;
    return;
  }
  reading = true;
  try {
    const [status, open, past, runs, problems] = await Promise.all([
      call("/api/v1/status"),
      call("/api/v1/incidents?state=open,acknowledged&limit=" + INCIDENTS_MAX),
      call("/api/v1/incidents?state=resolved,closed&limit=8"),
      call("/api/v1/executions?state=waiting_approval,proposed&limit=50"),
      call("/api/v1/problems?state=proposed,accepted,known_error,fix_planned&limit=20"),
    ]);
    byId("login").hidden = true;
    byId("board").hidden = false;
    show({ status, open, past: past.items, runs: runs.items, problems: problems.items });
    heardAt = Date.now();
    if (readFailed) say("");
    readFailed = !status.ready;
    if (readFailed) say("Not ready: " + status.not_ready);
  } catch (error) {
    readFailed = true;
    if (byId("login").hidden) say("Cannot read: " + error.message);
  }
  tick();
  reading = false;
  if (readAgain) {
    readAgain = false;
    setTimeout(read, 250);
  }
}

// --- Making elements: all text is set as text ---

function element(name, className, ...children) {
  const it = document.createElement(name);
  if (className) it.className = className;
  it.append(...children.filter((child) => child !== undefined && child !== null).map(
    (child) => (child instanceof Node ? child : String(child)),
  ));
  return it;
}

function link(text, kind, id) {
  const it = element("a", "", text);
  it.href = "/api/v1/" + kind + "/" + encodeURIComponent(id);
  return it;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min";
  if (whole < 172800) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
  return Math.floor(whole / 86400) + " d";
}

// A time that `tick` keeps up to date; the words around the duration are in its data.
function moment(at, before, after) {
  const it = element("time");
  it.dateTime = at;
  it.title = new Date(at).toLocaleString() + " (" + at + ")";
  it.dataset.before = before || "";
  it.dataset.after = after || "";
  renew(it);
  return it;
}

function renew(it) {
  const seconds = Math.abs(Date.now() - Date.parse(it.dateTime)) / 1000;
  const text = it.dataset.before + duration(seconds) + it.dataset.after;
  if (it.textContent !== text) it.textContent = text;
}

// --- A person's decisions ---

// The person's name: from the field, the token, or asked for once.
function person() {
  const name = byId("name").value.trim();
  if (name || token()) return Promise.resolve({ by: name || undefined });
  return new Promise((done) => {
    const ask = byId("ask");
    ask.returnValue = "";
    ask.addEventListener("close", () => {
      const given = ask.returnValue === "yes" ? byId("ask-name").value.trim() : "";
      if (given) keepName(given);
      done(given ? { by: given } : null);
    }, { once: true });
    ask.showModal();
  });
}

function keepName(name) {
  byId("name").value = name;
  localStorage.setItem("name", name);
}

function action(label, spoken, path, extra, className) {
  const button = element("button", className || "", label);
  button.type = "button";
  button.setAttribute("aria-label", spoken);
  button.addEventListener("click", async () => {
    const by = await person();
    if (!by) return;
    button.disabled = true;
    try {
      await call(path, Object.assign({}, by, extra));
      say("");
    } catch (error) {
      say(spoken + ": " + error.message);
      button.disabled = false;
    }
    read();
  });
  return button;
}

// --- Showing ---

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === "";
}

// A promise that was missed, and those that run, the next one first.
function clocks(incident) {
  const parts = [];
  for (const it of incident.sla.filter((clock) => clock.state === "breached")) {
    parts.push(element("span", "clock late", it.target + " missed"));
  }
  const running = incident.sla.filter((clock) => clock.state === "running" && clock.due_at);
  running.sort((left, right) => Date.parse(left.due_at) - Date.parse(right.due_at));
  for (const it of running.slice(0, 1)) {
    const left = (Date.parse(it.due_at) - Date.now()) / 1000;
    const level = left < 0 ? "late" : left < it.limit_seconds / 5 ? "near" : "";
    const before = it.target + (left < 0 ? " late by " : " in ");
    const bar = element("progress");
    bar.max = Math.max(1, it.limit_seconds);
    bar.value = Math.min(bar.max, Math.max(0, it.limit_seconds - left));
    bar.setAttribute("aria-label", "time used of the promise to " + it.target);
    parts.push(element("span", ("clock " + level).trim(), moment(it.due_at, before)), bar);
  }
  return parts;
}

// What may help with an incident: looked for when somebody opens it.
function help(incident) {
  const it = element("details", "help", element("summary", "", "what may help"));
  it.addEventListener("toggle", async () => {
    if (!it.open || it.dataset.read) return;
    it.dataset.read = "yes";
    try {
      const whole = await call("/api/v1/incidents/" + incident.id);
      const lines = whole.articles.map((one) =>
        element("li", "", "read ", link(one.title, "articles", one.id), ": " + one.why.join("; ")));
      lines.push(...whole.similar.map((one) => {
        const done = one.resolved_by ? [one.resolved_by + ": " + one.resolution] : [];
        done.push(...one.notes, ...one.runs.map((run) => run.runbook + " " + run.state));
        if (one.problem && one.problem.workaround) done.push(one.problem.id + ": " + one.problem.workaround);
        const what = done.length ? ", what was done: " + done.join("; ") : "";
        return element("li", "", "like ", link(one.id, "incidents", one.id), " " + one.title + what
          + " (" + one.why.join("; ") + ")");
      }));
      it.append(lines.length ? element("ul", "", ...lines) : element("p", "", "nothing is known yet"));
    } catch (error) {
      delete it.dataset.read;
      say("Cannot look for help: " + error.message);
    }
  });
  return it;
}

function row(incident) {
  const tr = element("tr", incident.priority);
  const cell = (name, className, ...children) => {
    const td = element("td", className, ...children);
    td.dataset.name = name;
    if (!td.hasChildNodes()) td.classList.add("empty");
    tr.append(td);
  };
  cell("Priority", "",
    element("span", "badge " + incident.priority, incident.priority),
    element("span", "severity " + incident.severity, incident.severity));
  cell("Incident", "",
    element("div", "title", incident.title),
    element("div", "under",
      link(incident.id, "incidents", incident.id),
      incident.services.length ? element("span", "", incident.services.join(", ")) : null,
      incident.problem ? element("span", "", "problem ", link(incident.problem, "problems", incident.problem)) : null,
      incident.executions.length
        ? element("span", "", "runs ", ...incident.executions.map((id) => [link(id, "executions", id), " "]).flat())
        : null,
      link("why?", "explain", incident.id)),
    incident.new_kinds.length
      ? element("div", "under", "never seen before: " + incident.new_kinds.join(", "))
      : null,
    help(incident));
  cell("State", "state " + incident.state, incident.state);
  cell("Open for", "", moment(incident.opened_at));
  cell("Alerts", "number", incident.firing_count === incident.alert_count
    ? String(incident.alert_count) : incident.firing_count + " of " + incident.alert_count);
  cell("SLA", "", ...clocks(incident));
  cell("Owner", "", incident.owner);
  cell("", "", incident.state === "open"
    ? action("Acknowledge", "Acknowledge " + incident.id, "/api/v1/incidents/" + incident.id + "/ack", {}, "main")
    : null);
  return tr;
}

function run(execution) {
  const path = "/api/v1/executions/" + execution.id;
  const values = Object.entries(execution.parameters).map(([name, value]) => name + "=" + value);
  const commands = execution.steps.map((it) => (it.argv ? it.argv.join(" ") : (it.method || "") + " " + (it.url || "")));
  return element("li", "",
    element("div", "what",
      element("div", "title", execution.runbook, values.length ? " (" + values.join(", ") + ")" : ""),
      element("div", "under",
        link(execution.id, "executions", execution.id),
        execution.incident
          ? element("span", "", "for ", link(execution.incident, "incidents", execution.incident),
            execution.isLate ? ", which is over" : "")
          : null,
        element("span", "", moment(execution.created_at, execution.state === "proposed" ? "proposed " : "waits for ",
          execution.state === "proposed" ? " ago" : "")),
        ...commands.filter((it) => it.trim()).map((it) => element("code", "", it)))),
    element("div", "actions",
      action("Approve", "Approve " + execution.id, path + "/approve", {}, "main"),
      action("Deny", "Deny " + execution.id, path + "/deny", { reason: "denied on the page" })));
}

function recurring(problem) {
  return element("li", "",
    element("div", "what",
      element("div", "title", problem.title),
      element("div", "under",
        link(problem.id, "problems", problem.id),
        element("span", "", problem.state.replaceAll("_", " ")),
        problem.period_seconds ? element("span", "", "about every " + duration(problem.period_seconds)) : null,
        link("why?", "explain", problem.id))),
    element("span", "side", problem.incidents.length + " incidents, the last ", moment(problem.last_seen, "", " ago")));
}

function past(incident) {
  const lasted = (Date.parse(incident.resolved_at || incident.closed_at) - Date.parse(incident.opened_at)) / 1000;
  return element("li", "",
    element("div", "what",
      element("div", "title", incident.title),
      element("div", "under",
        link(incident.id, "incidents", incident.id),
        element("span", "", incident.priority),
        element("span", "severity " + incident.severity, incident.severity),
        incident.services.length ? element("span", "", incident.services.join(", ")) : null)),
    element("span", "side", moment(incident.resolved_at || incident.closed_at, "over for "),
      ", lasted " + duration(lasted)));
}

// Replaces what differs from last time, child by child, so that focus and selection stay.
function fill(parent, items, make) {
  const known = new Map([...parent.children].map((it) => [it.dataset.id, it]));
  const wanted = items.map((item) => {
    const text = JSON.stringify(item);
    const old = known.get(item.id);
    if (old && old.dataset.seen === text) return old;
    const fresh = make(item);
    fresh.dataset.id = item.id;
    fresh.dataset.seen = text;
    if (old && old.contains(document.activeElement)) keepFocus(fresh, document.activeElement);
    return fresh;
  });
  if (wanted.length !== parent.children.length || wanted.some((it, at) => it !== parent.children[at])) {
    parent.replaceChildren(...wanted);
  }
}

function keepFocus(fresh, focused) {
  const name = focused.getAttribute("aria-label");
  const again = [...fresh.querySelectorAll("button")].find((it) => it.getAttribute("aria-label") === name);
  if (again) setTimeout(() => again.focus());
}

// The most urgent first. While the pointer is on the table no row moves away under it.
function inOrder(items) {
  const rank = (it) => it.priority + (it.state === "open" ? 0 : 1);
  const sorted = [...items].sort((left, right) =>
    rank(left).localeCompare(rank(right)) || Date.parse(left.opened_at) - Date.parse(right.opened_at));
  if (!byId("rows").matches(":hover")) return sorted;
  const place = new Map([...byId("rows").children].map((it, at) => [it.dataset.id, at]));
  const at = (it) => (place.has(it.id) ? place.get(it.id) : place.size);
  return sorted.sort((left, right) => at(left) - at(right));
}

function figures(view) {
  const open = view.open.items;
  const more = view.open.next_cursor ? "+" : "";
  const missed = open.filter((it) => it.sla.some((clock) => clock.state === "breached")).length;
  const firing = open.reduce((sum, it) => sum + it.firing_count, 0);
  const urgent = open.some((it) => it.state === "open" && it.priority <= "P2");
  return [
    [open.filter((it) => it.state === "open").length + more, "open", urgent ? "bad" : ""],
    [open.filter((it) => it.state !== "open").length + more, "acknowledged", ""],
    [firing + more, firing === 1 ? "alert firing" : "alerts firing", ""],
    [missed + more, "SLA missed", missed ? "bad" : ""],
    [view.runs.length, "to approve", view.runs.length ? "near" : ""],
  ].map(([number, words, className]) => element("li", className, element("strong", "", number), words));
}

function show(view) {
  const open = view.open.items;
  const problemOf = new Map(view.problems.flatMap((it) => it.incidents.map((id) => [id, it.id])));
  byId("figures").replaceChildren(...figures(view));
  const rows = inOrder(open).map((it) => ({ ...it, problem: it.problem || problemOf.get(it.id) }));
  fill(byId("rows"), rows, row);
  const isOpen = new Set(open.map((it) => it.id));
  const runs = view.runs.map((it) => ({ ...it, isLate: Boolean(it.incident) && !isOpen.has(it.incident) }));
  fill(byId("runs"), runs, run);
  fill(byId("problems"), view.problems, recurring);
  fill(byId("past"), view.past, past);
  byId("table").hidden = open.length === 0;
  const isNew = open.length === 0 && view.past.length === 0;
  byId("first-steps").hidden = !isNew;
  byId("quiet").hidden = open.length > 0 || isNew;
  byId("waiting").hidden = view.runs.length === 0;
  byId("recurring").hidden = view.problems.length === 0;
  byId("over").hidden = view.past.length === 0;
  const count = open.length + (view.open.next_cursor ? " or more" : "") + " open incidents";
  if (byId("count").textContent !== count) byId("count").textContent = count;
  document.title = open.length ? "(" + open.length + ") Watchkeeper" : "Watchkeeper";
  const stop = view.status.stopped;
  byId("stopped").hidden = !stop;
  byId("stopped").textContent = stop ? "No runbook starts: stopped by " + stop.by + ". " + stop.reason : "";
  byId("version").textContent =
    "Watchkeeper " + view.status.version + (view.status.mode === "observe" ? ", observing only" : "");
}

// Renews ages, and says how old all this is.
function tick() {
  document.querySelectorAll("time").forEach(renew);
  const stale = Date.now() - heardAt > STALE_AFTER;
  const since = heardAt ? "stale, as of " + new Date(heardAt).toLocaleTimeString() : "not connected";
  const text = stale ? since : "live";
  if (byId("live").textContent !== text) byId("live").textContent = text;
  byId("live").className = stale ? "live stale" : "live good";
}

// --- Beginning ---

function start() {
  byId("name").value = localStorage.getItem("name") || "";
  byId("name").addEventListener("change", () => keepName(byId("name").value.trim()));
  byId("snippet").textContent =
    "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"" + location.host + "\"]";
  byId("by-hand").textContent =
    "watchkeeper --server " + location.origin + " alert send Test severity=critical service=shop";
  byId("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", byId("token").value.trim());
    byId("token").value = "";
    say("");
    read();
  });
  byId("rows").addEventListener("mouseleave", read);
  // An EventSource cannot send a token, so with one the page asks every two seconds instead.
  const source = new EventSource("/api/v1/stream");
  source.addEventListener("change", () => {
    if (!token()) read();
  });
  setInterval(() => {
    if (token()) read();
  }, POLL_EVERY);
  // Comments of the stream cannot be heard here; a slow read keeps clocks fresh and proves life.
  setInterval(() => {
    if (!token() && byId("login").hidden && Date.now() - heardAt > 10000) read();
  }, 5000);
  setInterval(tick, 1000);
  read();
}

start();
