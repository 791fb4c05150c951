"use strict";
// The search page. Every text is set as text, never as HTML; nothing but this server is asked.

const byId = (id) => document.getElementById(id);
const canvas = byId("map"), tip = byId("tip"), results = byId("results"), statusLine = byId("status");
let facts = {}, collection = { points: [], ids: [], titles: [] }, answer = null;
let asked = 0, hovered = -1;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

async function ask(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error("The server does not answer. Is the command that serves this page still running?");
  }
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

function say(text, error = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("error", error);
}

const titleOf = (title, id) => title || `(no title) ${id}`;
const scoreOf = (score) =>
  facts.similarity === "cosine" ? `cosine ${score.toFixed(3)}` : `distance ${(-score).toFixed(3)}`;
const likeUrl = (id) => `?${new URLSearchParams({ like: id })}`;

// What the address asks for: ?q=TEXT or ?like=ID.
async function load() {
  const wanted = new URLSearchParams(location.search);
  const text = (wanted.get("q") || "").trim(), like = wanted.get("like"), mine = ++asked;
  byId("query").value = text;
  if (!text && like === null) {
    answer = null;
    results.replaceChildren();
    say(facts.text ? "Type a text above, or click a point of the map." : facts.why);
    return draw();
  }
  say("Searching ...");
  try {
    const path = like === null ? `/search?${new URLSearchParams({ q: text })}`
      : `/similar?${new URLSearchParams({ id: like })}`;
    const found = await ask(path);
    if (mine === asked) show(found, like !== null);
  } catch (error) {
    if (mine !== asked) return;
    answer = null;
    results.replaceChildren();
    say(error.message, true);
    draw();
  }
}

function show(found, like) {
  answer = found;
  const named = like ? `“${titleOf(found.title, found.query)}”` : "your text";
  say(`${found.nearest.length} papers nearest to ${named}.`);
  results.replaceChildren(...found.nearest.map(item));
  draw();
}

function item(hit) {
  const made = document.createElement("li"), body = document.createElement("div");
  const meta = element("div", "meta", ""), more = element("a", "more", "More like this");
  more.href = likeUrl(hit.paper_id);
  more.setAttribute("aria-label", `More like ${titleOf(hit.title, hit.paper_id)}`);
  more.addEventListener("click", (event) => follow(event, more.href));
  meta.append(element("span", "id", hit.paper_id), element("span", "score", scoreOf(hit.score)), more);
  body.append(element("div", "title", titleOf(hit.title, hit.paper_id)), meta);
  made.append(element("span", "rank", hit.rank), body);
  for (const [name, rank] of [["mouseenter", hit.rank], ["mouseleave", 0], ["focusin", hit.rank], ["focusout", 0]])
    made.addEventListener(name, () => draw(rank));
  return made;
}

function follow(event, url) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(url);
}

function go(url) {
  history.pushState(null, "", url);
  window.scrollTo(0, 0);
  load();
}

// The map.

let frame = null; // from a point of the collection to a pixel

function measure() {
  const width = canvas.clientWidth, height = canvas.clientHeight, sharp = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(height * sharp);
  const range = (axis) => {
    const values = collection.points.map((point) => point[axis]);
    const low = Math.min(...values), high = Math.max(...values);
    return high > low ? [low, high] : [low - 1, low + 1];
  };
  if (!collection.points.length) return;
  const [left, right] = range(0), [bottom, top] = range(1), room = 18;
  const within = (value, size) => Math.min(Math.max(value, room / 2), size - room / 2);
  frame = {
    sharp, width, height,
    place: ([x, y]) => [
      within(room + (x - left) / (right - left) * (width - 2 * room), width),
      within(height - room - (y - bottom) / (top - bottom) * (height - 2 * room), height),
    ],
  };
}

function draw(marked = 0) {
  if (!frame) return;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const dot = (point, radius, fill) => {
    const [x, y] = frame.place(point);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = fill;
    pen.fill();
    return [x, y];
  };
  pen.setTransform(frame.sharp, 0, 0, frame.sharp, 0, 0);
  pen.clearRect(0, 0, frame.width, frame.height);
  pen.globalAlpha = collection.points.length > 1500 ? 0.55 : 0.8;
  for (const point of collection.points) dot(point, collection.points.length > 1500 ? 1.8 : 2.6, colour("--point"));
  pen.globalAlpha = 1;
  if (answer) {
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = "bold 11px Helvetica, Arial, sans-serif";
    const order = [...answer.nearest].reverse().sort((a, b) => (a.rank === marked) - (b.rank === marked));
    for (const hit of order) {
      const [x, y] = dot(hit.point, hit.rank === marked ? 13 : 9, colour("--accent"));
      pen.strokeStyle = colour("--soft");
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.fillStyle = colour("--on-accent");
      pen.fillText(hit.rank, x, y + 0.5);
    }
    const [x, y] = frame.place(answer.point);
    pen.strokeStyle = colour("--query");
    pen.lineWidth = 3;
    pen.beginPath();
    for (const [dx, dy] of [[9, 0], [0, 9]]) {
      pen.moveTo(x - dx, y - dy);
      pen.lineTo(x + dx, y + dy);
    }
    pen.stroke();
  }
  if (hovered >= 0) dot(collection.points[hovered], 5, colour("--ink"));
}

function pointAt(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = -1, least = 14 ** 2;
  collection.points.forEach((point, number) => {
    const [px, py] = frame.place(point), far = (px - x) ** 2 + (py - y) ** 2;
    if (far < least) [best, least] = [number, far];
  });
  return best;
}

function hover(event) {
  if (!frame) return;
  const number = event.type === "mouseleave" ? -1 : pointAt(event);
  if (number !== hovered) {
    hovered = number;
    draw();
  }
  tip.hidden = number < 0;
  if (number < 0) return;
  const [x, y] = frame.place(collection.points[number]);
  tip.textContent = titleOf(collection.titles[number], collection.ids[number]);
  tip.style.left = `${Math.max(0, Math.min(x + 12, frame.width - tip.offsetWidth))}px`;
  tip.style.top = `${y + 14 + tip.offsetHeight > frame.height ? y - tip.offsetHeight - 10 : y + 14}px`;
}

canvas.addEventListener("mousemove", hover);
canvas.addEventListener("mouseleave", hover);
canvas.addEventListener("click", (event) => {
  const number = frame ? pointAt(event) : -1;
  if (number >= 0) go(likeUrl(collection.ids[number]));
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("query").value.trim();
  if (text) go(`?${new URLSearchParams({ q: text })}`);
});
byId("home").addEventListener("click", (event) => follow(event, "/"));
window.addEventListener("popstate", load);
window.addEventListener("resize", () => { measure(); draw(); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
window.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("query")) {
    event.preventDefault();
    byId("query").focus();
  }
});

async function start() {
  try {
    [facts, collection] = await Promise.all([ask("/facts"), ask("/map")]);
  } catch (error) {
    return say(error.message, true);
  }
  const number = (value) => value.toLocaleString("en");
  byId("facts").textContent = facts.line;
  byId("query").disabled = !facts.text;
  byId("form").querySelector("button").disabled = !facts.text;
  const shown = collection.points.length < facts.papers
    ? `${number(collection.points.length)} of ${number(facts.papers)} papers, drawn at random`
    : `All ${number(facts.papers)} papers`;
  byId("legend").textContent = `${shown}, by the two principal components of their vectors `
    + `(${Math.round(100 * collection.share)} % of the variance). Numbers: the nearest papers; cross: what was asked.`;
  measure();
  await load();
  if (facts.text) byId("query").focus({ preventScroll: true });
}

start();
