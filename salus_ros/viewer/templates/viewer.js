"use strict";
// DATA: episodes (whole, or their titles when they are fetched one by one), markable, label (null on a page to keep).
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let view = null, time = 0, playing = null;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function shape(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    made.append(text);
  }
  return made;
}

const eventName = (event) => (event.failure || event.kind).toLowerCase();
const words = (name) => name.toLowerCase().replaceAll("_", " ");

function nearest(times, at) {
  let best = -1;
  times.forEach((t, i) => { if (best < 0 || Math.abs(t - at) < Math.abs(times[best] - at)) best = i; });
  return best;
}

async function open(index) {
  stop();
  view = DATA.label ? await fetched(`episode/${index}`) : DATA.episodes[index];
  time = 0;
  $("outcome").textContent = view.outcome;
  $("instruction").textContent = view.instruction;
  $("cameras").replaceChildren(...Object.keys(view.frames).map((camera) => element("figure", {},
    element("img", { id: `camera-${camera}`, alt: camera }), element("figcaption", { textContent: camera }))));
  draw();
  go(0);
}

async function fetched(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

function draw() {
  const rows = view.modes.length ? [row("mode of the gate", "", (svg) => {
    view.modes.forEach((from, i) => {
      const to = i + 1 < view.modes.length ? view.modes[i + 1].stamp_s : view.end_s;
      svg.append(shape("rect", { class: `mode ${from.mode}`, x: x(from.stamp_s), y: 0, width: Math.max(x(to) - x(from.stamp_s), 0), height: 100 },
        `${words(from.mode)} from ${from.stamp_s.toFixed(2)} s${from.reason ? ": " + from.reason : ""}`));
    });
  })] : [];
  for (const signal of view.signals) {
    const known = signal.y.filter((y) => y !== null);
    const low = Math.min(...known), high = Math.max(...known), span = high - low || 1;
    rows.push(row(signal.name, `${low} to ${high} ${signal.unit}`, (svg) => {
      let piece = [];
      const end = () => { if (piece.length) svg.append(shape("polyline", { points: piece.join(" ") })); piece = []; };
      signal.t.forEach((t, i) => signal.y[i] === null ? end() : piece.push(`${x(t)},${95 - 90 * (signal.y[i] - low) / span}`));
      end();
    }));
  }
  if (!rows.length) rows.push(row("time", "", () => {}));
  $("curves").replaceChildren(...rows);
  const noted = Object.entries(view.notes).map(([what, note]) => element("div", { textContent: `${what}: ${note}` }));
  $("notes").replaceChildren(...noted);
  list();
}

const x = (t) => view.end_s > 0 ? 1000 * t / view.end_s : 0;

function row(name, range, fill) {
  const svg = shape("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" });
  fill(svg);
  for (const event of view.events)
    svg.append(shape("line", { class: `e-${eventName(event)}`, x1: x(event.stamp_s), x2: x(event.stamp_s), y1: 0, y2: 100 },
      `${words(eventName(event))} at ${event.stamp_s.toFixed(2)} s`));
  svg.append(shape("line", { class: "cursor", x1: 0, x2: 0, y1: 0, y2: 100 }));
  const point = (pointer) => {
    const box = svg.getBoundingClientRect();
    go(view.end_s * (pointer.clientX - box.left) / box.width);
  };
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointermove", (pointer) => { if (pointer.buttons) point(pointer); });
  return element("div", { className: "curve" },
    element("div", { className: "name", textContent: name }, element("span", { className: "range", textContent: range })), svg);
}

function list() {
  const rows = view.events.map((event, i) => {
    const when = element("td", { textContent: `${event.stamp_s.toFixed(2)} s`, onclick: () => go(event.stamp_s) });
    const last = element("td");
    if (DATA.label && event.mine) last.append(element("button", { textContent: "remove", onclick: () => keep(view.events.filter((_, j) => j !== i)) }));
    return element("tr", {}, when, element("td", { textContent: words(eventName(event)) }), element("td", { textContent: event.detail }), last);
  });
  $("events").tBodies[0].replaceChildren(...rows);
}

function go(at) {
  time = Math.min(Math.max(at, 0), view.end_s);
  $("time").textContent = `${time.toFixed(2)} s`;
  for (const [camera, times] of Object.entries(view.frames)) {
    const i = nearest(times, time);
    if (i >= 0) $(`camera-${camera}`).src = DATA.label ? `frame/${view.index}/${camera}/${i}` : view.pictures[camera][i];
  }
  for (const line of document.querySelectorAll(".cursor")) { line.setAttribute("x1", x(time)); line.setAttribute("x2", x(time)); }
}

function step(direction, second) {
  if (second) return go(time + direction);
  const moments = [...new Set(Object.values(view.frames).flat())].sort((a, b) => a - b);
  const ahead = direction > 0 ? moments.find((t) => t > time + 1e-3) : moments.findLast((t) => t < time - 1e-3);
  go(ahead === undefined ? time + 0.1 * direction : ahead);
}

function stop() { clearInterval(playing); playing = null; $("play").textContent = "play"; }

function play() {
  if (playing) return stop();
  if (time >= view.end_s) go(0);
  $("play").textContent = "pause";
  playing = setInterval(() => { go(time + 0.1); if (time >= view.end_s) stop(); }, 100);
}

async function keep(events) {
  const mine = events.filter((event) => event.mine).map(({ stamp_s, kind, failure }) => ({ stamp_s, kind, failure }));
  const status = $("status");
  try {
    const answer = await fetch(`episode/${view.index}/marks`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Salus-Token": DATA.label.csrf },
      body: JSON.stringify({ version: view.version, marks: mine }),
    });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    Object.assign(view, { events: told.events, version: told.version, outcome: told.outcome });
    $("outcome").textContent = view.outcome;
    status.className = "";
    status.textContent = `Saved to ${told.file}.`;
    const at = time;
    draw();
    go(at);
  } catch (error) {
    status.className = "wrong";
    status.textContent = `Not saved: ${error.message}`;
  }
}

for (const [i, episode] of DATA.episodes.entries())
  $("episodes").append(element("option", { value: i, textContent: `${episode.title}: ${episode.outcome}` }));
$("episodes").onchange = () => open(Number($("episodes").value));
$("back").onclick = () => step(-1, false);
$("forward").onclick = () => step(1, false);
$("play").onclick = play;
if (DATA.label) {
  $("marking").hidden = false;
  const kinds = [...DATA.markable, ...(DATA.label.starts ? [["EPISODE_START", null]] : [])];
  kinds.forEach(([kind, failure], i) => $("kinds").append(element("button", {
    id: `mark-${(failure || kind).toLowerCase()}`, textContent: `${i + 1} ${words(failure || kind)}`,
    onclick: () => keep([...view.events, { stamp_s: time, kind, failure, mine: true }]),
  })));
}
document.addEventListener("keydown", (key) => {
  if (key.target.tagName === "SELECT" || key.ctrlKey || key.metaKey || key.altKey) return;
  if (key.key === "ArrowLeft") step(-1, key.shiftKey);
  else if (key.key === "ArrowRight") step(1, key.shiftKey);
  else if (key.key === " ") play();
  else if (DATA.label && $("kinds").children[Number(key.key) - 1]) $("kinds").children[Number(key.key) - 1].click();
  else return;
  key.preventDefault();
});
if (DATA.episodes.length) open(0);
