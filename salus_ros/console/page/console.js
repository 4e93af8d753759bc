"use strict";
// Draws what the console's node sends ten times a second, and sends what a person presses.
// Words from the graph are set as text only, never as markup.

const byId = (id) => document.getElementById(id);
const xsrf = document.querySelector("meta[name=xsrf]").content;
const STALE_MS = 1000;
const HISTORY_S = 30;
const STOP_RETRY_MS = 300;
const TYPE_COLOURS = { collision: "--collision", drop: "--drop", miss: "--miss" };

const words = (name) => name.replace(/_/g, " ").toLowerCase().replace(/^./, (first) => first.toUpperCase());
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The scale of risk: calm, at half way the alarm's threshold, certain.

function mix(from, to, share) {
  const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const [a, b] = [parse(from), parse(to)];
  return `rgb(${a.map((value, i) => Math.round(value + share * (b[i] - value))).join(",")})`;
}

function levelColour(level) {
  if (level === null) return colour("--faint");
  if (level < 0.5) return mix(colour("--calm"), colour("--warn"), 2 * level);
  return mix(colour("--warn"), colour("--bad"), 2 * level - 1);
}

// A canvas in CSS pixels, as sharp as the screen.
function paper(id) {
  const canvas = byId(id);
  const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}

// Connection

let socket = null;
let heardAt = -Infinity;
let now = null;
let image = null;
let camera = null;
const history = [];
let arrivals = [];

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/live`);
  socket.binaryType = "blob";
  socket.onopen = () => { if (camera) socket.send(camera); };
  socket.onmessage = (message) => {
    if (message.data instanceof Blob) takeImage(message.data);
    else take(JSON.parse(message.data));
  };
  socket.onclose = () => setTimeout(connect, 500);
}

async function takeImage(blob) {
  const next = await createImageBitmap(blob);
  if (image) image.close();
  image = next;
}

function take(message) {
  if (message.events) message.events.forEach(addEvent);
  if (!message.now) return;
  now = message.now;
  heardAt = performance.now();
  arrivals.push(heardAt);
  arrivals = arrivals.filter((at) => at > heardAt - 2000);
  if (now.risk) history.push({ at: heardAt, level: now.risk.level.map((row) => Math.max(...row)) });
  while (history.length && history[0].at < heardAt - 1000 * HISTORY_S) history.shift();
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function watchLink() {
  const silence = performance.now() - heardAt;
  const stale = silence > STALE_MS;
  document.body.classList.toggle("stale", stale);
  byId("lost").hidden = !stale || heardAt < 0;
  byId("link").className = `link ${stale ? "dead" : "live"}`;
  const rate = (arrivals.length - 1) / 2;
  setText(byId("link-text"), heardAt < 0 ? "connecting" : stale ? `silent for ${Math.round(silence / 1000)} s` : `live, ${rate.toFixed(0)} Hz`);
}

// Mode and actions

const ACTIONS = { ASSIST: ["resume", "retry", "abort"], EMERGENCY_STOP: ["reset"] };

function drawMode() {
  const gate = now.gate;
  const mode = gate ? gate.mode : "SILENT";
  document.body.dataset.mode = mode;
  setText(byId("mode"), gate ? words(mode) : "No gate heard");
  setText(byId("reason"), gate ? gate.reason : "The gate has not spoken yet.");
  setText(byId("since"), gate && gate.since !== null ? `for ${duration(gate.since)}` : "");
  setText(byId("speed"), gate ? percent(gate.speed) : "–");
  byId("speed-bar").style.width = gate && gate.speed !== null ? `${100 * gate.speed}%` : "0";
  const offered = ACTIONS[mode] || [];
  document.querySelectorAll("[data-command]").forEach((button) => {
    button.hidden = !offered.includes(button.dataset.command);
  });
  byId("stop").classList.toggle("taken", mode === "EMERGENCY_STOP");
  if (!stopping) setText(byId("stop"), mode === "EMERGENCY_STOP" ? "Stopped" : "Stop");
}

function duration(seconds) {
  return seconds < 60 ? `${Math.floor(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

// Camera and path

function drawCamera() {
  byId("no-image").hidden = image !== null;
  if (!image) return;
  byId("camera").style.setProperty("--shape", `${image.width} / ${image.height}`);
  const { pen, width, height } = paper("camera");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, 0, 0, width, height);
  const { pixels, levels, past } = now.path;
  if (camera !== "front" || !pixels.length) return;
  const scaled = pixels.map(([u, v]) => (u === null ? null : [u * width, v * height]));
  drawPath(pen, [scaled[0], ...scaled.slice(1 + past)], levels.slice(past), 4);
}

function drawPath(pen, points, levels, width) {
  pen.lineCap = "round";
  pen.lineJoin = "round";
  for (const [thickness, plain] of [[width + 4, "rgba(8,16,14,.55)"], [width, null]]) {
    for (let i = 1; i < points.length; i++) {
      if (!points[i] || !points[i - 1]) continue;
      pen.strokeStyle = plain || levelColour(levels[i - 1]);
      pen.lineWidth = thickness;
      pen.beginPath();
      pen.moveTo(...points[i - 1]);
      pen.lineTo(...points[i]);
      pen.stroke();
    }
  }
  if (points[0]) {
    pen.fillStyle = "#fff";
    pen.strokeStyle = "rgba(8,16,14,.7)";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(...points[0], 1.4 * width, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  }
}

// The base stands at the origin; both views share one scale, which grows with what was seen.
const bounds = { x: [-0.1, 0.9], y: [-0.5, 0.5], z: [0, 0.85] };

function drawViews() {
  const { tool, points, levels, past } = now.path;
  const all = tool ? [tool, ...points] : points;
  for (const point of all) {
    ["x", "y", "z"].forEach((axis, i) => {
      bounds[axis][0] = Math.min(bounds[axis][0], point[i] - 0.05);
      bounds[axis][1] = Math.max(bounds[axis][1], point[i] + 0.05);
    });
  }
  const ahead = tool ? [tool, ...points.slice(past)] : [];
  drawView("top", ahead, levels.slice(past), ([x, y]) => [-y, x], ["y", "x"], "from above");
  drawView("side", ahead, levels.slice(past), ([x, , z]) => [x, z], ["x", "z"], "from the side");
}

function drawView(id, points, levels, place, axes, title) {
  const { pen, width, height } = paper(id);
  const [across, up] = axes.map((axis) => (axis === "y" ? [-bounds.y[1], -bounds.y[0]] : bounds[axis]));
  const scale = 0.94 * Math.min(width / (across[1] - across[0]), height / (up[1] - up[0]));
  const toPixel = ([a, b]) => [
    width / 2 + scale * (a - (across[0] + across[1]) / 2),
    height / 2 - scale * (b - (up[0] + up[1]) / 2),
  ];
  pen.strokeStyle = colour("--rule");
  pen.lineWidth = 1;
  for (let tenth = -20; tenth <= 20; tenth += 2) {
    const [x] = toPixel([tenth / 10, 0]);
    const [, y] = toPixel([0, tenth / 10]);
    pen.beginPath();
    pen.moveTo(x, 0); pen.lineTo(x, height);
    pen.moveTo(0, y); pen.lineTo(width, y);
    pen.stroke();
  }
  pen.fillStyle = colour("--faint");
  pen.fillText(title, 9, 17);
  const [x, y] = toPixel([0, 0]);
  pen.fillRect(x - 5, y - 5, 10, 10);
  drawPath(pen, points.map((point) => toPixel(place(point))), levels, 3);
}

// Risk

function drawRisk() {
  const risk = now.risk;
  const table = byId("risk");
  if (!risk) {
    setText(byId("worst"), "nothing is foreseen now");
    table.querySelectorAll("td").forEach((cell) => paintCell(cell, null, 0));
    return;
  }
  if (table.tBodies[0].rows.length !== risk.types.length) buildRisk(table, risk);
  risk.types.forEach((_type, i) => {
    risk.horizons.forEach((_horizon, j) => {
      paintCell(table.tBodies[0].rows[i].cells[j + 1], risk.probability[i][j], risk.level[i][j]);
    });
  });
  setText(byId("worst"), risk.alarm ? `${risk.worst} within ${risk.horizon} s` : "");
  byId("foreign").hidden = !risk.foreign;
}

function buildRisk(table, risk) {
  const head = document.createElement("tr");
  head.append(document.createElement("th"), ...risk.horizons.map((horizon) => make("th", `${horizon} s`)));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...risk.types.map((type) => {
    const row = document.createElement("tr");
    const name = make("th", "");
    const mark = document.createElement("i");
    mark.style.background = `var(${TYPE_COLOURS[type] || "--soft"})`;
    name.append(mark, words(type));
    row.append(name, ...risk.horizons.map(() => {
      const cell = document.createElement("td");
      cell.append(document.createElement("b"), document.createElement("span"));
      return cell;
    }));
    return row;
  }));
  byId("legend").replaceChildren(
    make("span", "Probability within each horizon; the line is where the alarm begins."),
    Object.assign(make("span", "Unlike the training data"), { id: "foreign", className: "foreign" }),
  );
}

function paintCell(cell, probability, level) {
  const [bar, text] = cell.children;
  bar.style.width = `${100 * level}%`;
  bar.style.background = levelColour(level);
  cell.classList.toggle("over", level >= 0.5);
  setText(text, probability === null ? "–" : percent(probability));
}

function drawHistory() {
  const { pen, width, height } = paper("history");
  pen.fillStyle = colour("--well");
  pen.fillRect(0, 0, width, height);
  pen.strokeStyle = colour("--bad");
  pen.globalAlpha = 0.6;
  pen.setLineDash([5, 5]);
  pen.beginPath();
  pen.moveTo(0, height / 2);
  pen.lineTo(width, height / 2);
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
  pen.fillStyle = colour("--faint");
  pen.fillText("alarm", 8, height / 2 - 6);
  pen.fillText(`${HISTORY_S} s ago`, 8, height - 8);
  pen.textAlign = "right";
  pen.fillText("now", width - 8, height - 8);
  pen.textAlign = "left";
  const types = now.risk ? now.risk.types : Object.keys(TYPE_COLOURS);
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  types.forEach((type, i) => {
    pen.strokeStyle = colour(TYPE_COLOURS[type] || "--soft");
    pen.beginPath();
    let before = -Infinity;
    for (const { at, level } of history) {
      const x = width * (1 - (heardAt - at) / (1000 * HISTORY_S));
      const y = height - 2 - (height - 4) * level[i];
      if (at - before > 1000) pen.moveTo(x, y);
      else pen.lineTo(x, y);
      before = at;
    }
    pen.stroke();
  });
}

// Lists

function make(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function drawRows(id, rows) {
  const list = byId(id);
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(({ kind, name, text, title }, i) => {
    if (!list.children[i]) {
      const row = document.createElement("li");
      row.append(make("span", "", "dot"), make("span", ""), make("span", ""));
      list.append(row);
    }
    const row = list.children[i];
    row.className = kind;
    row.title = title;
    setText(row.children[1], name);
    setText(row.children[2], text);
  });
}

function drawHealth() {
  drawRows("sources", now.sources.map((source) => ({
    kind: source.condition,
    name: words(source.name),
    title: source.topic,
    text: source.condition === "fresh" ? `${source.rate} Hz`
      : source.condition === "never" ? "never heard" : `silent for ${duration(source.age)}`,
  })));
  drawRows("nodes", now.nodes.map((node) => ({
    kind: node.gone ? "gone" : ["well", "warning"][node.level] || "error",
    name: words(node.name.replace(/_node$/, "")),
    title: node.name,
    text: node.gone ? "gone" : node.message,
  })));
}

let newest = 0;

function addEvent(event) {
  if (event.number <= newest) {
    if (event.number !== 1) return;  // a console that was started again counts from 1
    byId("events").replaceChildren();
  }
  newest = event.number;
  const row = make("li", "", event.level);
  const time = make("time", new Date(1000 * event.wall_s).toTimeString().slice(0, 8));
  row.append(time, make("span", words(event.source.replace(/_node$/, "")), "source"), make("span", event.text, "text"));
  byId("events").prepend(row);
  while (byId("events").children.length > 200) byId("events").lastChild.remove();
}

// Commands

async function post(command, timeoutMs) {
  const response = await fetch(`/command/${command}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf },
    body: JSON.stringify({ seen: now && now.gate ? now.gate.mode : "silent" }),
    keepalive: true,
    priority: "high",
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (response.status === 401) throw new Error("log in again: reload this page");
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function say(text, bad) {
  const answer = byId("answer");
  answer.className = bad ? "answer bad" : "answer";
  answer.textContent = text;
}

let stopping = false;

// Heard just now: the stop was taken, even if its answer is lost.
const latched = () => now?.gate?.mode === "EMERGENCY_STOP" && performance.now() - heardAt < STALE_MS;

async function stop() {
  if (stopping) return;
  stopping = true;
  const button = byId("stop");
  button.classList.add("asking");
  setText(button, "Stopping");
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await post("stop", 4000);
      say(answer.accepted ? "" : `Stop: ${answer.message}. Use the robot's own emergency stop.`, !answer.accepted);
      break;
    } catch (error) {
      if (latched()) {
        say("", false);
        break;
      }
      say(`Stop is not delivered (try ${attempt}: ${error.message}). Use the robot's own emergency stop.`, true);
      await new Promise((resolve) => setTimeout(resolve, STOP_RETRY_MS));
    }
  }
  stopping = false;
  button.classList.remove("asking");
  if (now) drawMode();
}

async function ask(button) {
  const command = button.dataset.command;
  button.disabled = true;
  try {
    const answer = await post(command, 5000);
    say(answer.accepted ? "" : `${words(command)} is refused: ${answer.message}.`, !answer.accepted);
  } catch (error) {
    say(`${words(command)} is not delivered: ${error.message}.`, true);
  }
  button.disabled = false;
}

let drawing = false;

function draw() {
  drawing = false;
  setText(byId("instruction"), now.instruction);
  drawMode();
  drawCamera();
  drawViews();
  drawRisk();
  drawHistory();
  drawHealth();
}

byId("stop").addEventListener("pointerdown", stop);
byId("stop").addEventListener("click", (event) => { if (event.detail === 0) stop(); });  // from the keyboard
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
document.querySelectorAll("[data-command]").forEach((button) => button.addEventListener("click", () => ask(button)));
document.querySelectorAll("[data-camera]").forEach((button, i) => {
  const choose = () => {
    camera = button.dataset.camera;
    image = null;
    document.querySelectorAll("[data-camera]").forEach((other) => other.setAttribute("aria-pressed", other === button));
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(camera);
  };
  button.addEventListener("click", choose);
  if (i === 0) choose();
});
setInterval(watchLink, 200);
connect();
