"use strict";

// Gallery, dialog and tables of the page. All that it shows is in the page; pictures and meshes
// are decoded when they are looked at.

// Arrow keys, Home and End move the focus within a group of buttons, which is one stop of Tab.
function rove(group, selector) {
  const all = () => [...group.querySelectorAll(selector)];
  const stop = (chosen) => all().forEach((one) => (one.tabIndex = one === chosen ? 0 : -1));
  const below = (items, from, way) => {
    const { left, top } = items[from].getBoundingClientRect();
    let best = from;
    for (let i = from + way; items[i]; i += way) {
      const place = items[i].getBoundingClientRect();
      if (Math.abs(place.top - top) < 2) continue;
      best = i;
      if (way > 0 ? place.left >= left - 2 : place.left <= left + 2) break;
    }
    return best;
  };
  group.addEventListener("keydown", (event) => {
    const items = all();
    const at = items.indexOf(document.activeElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => below(items, at, 1),
      ArrowUp: () => below(items, at, -1),
      Home: () => 0,
      End: () => items.length - 1,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const next = items[Math.max(0, Math.min(items.length - 1, to()))];
    stop(next);
    next.focus();
  });
  group.addEventListener("focusin", (event) => {
    if (event.target.matches(selector)) stop(event.target);
  });
  return () => stop(all()[0]);
}

// The number that a cell starts with; what has none comes last.
function valueOf(text) {
  const [number] = text.match(/^-?(∞|\d[\d.]*(e[+-]?\d+)?)/) || [];
  return number === undefined ? NaN : Number(number.replace("∞", "Infinity"));
}

function sortable(table) {
  const body = table.tBodies[0];
  const order = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const text = (row) => row.cells[column].textContent.trim();
    button.addEventListener("click", () => {
      // Up, down, as it was.
      const next = { ascending: "descending", descending: null }[head.ariaSort];
      const sort = next === undefined ? "ascending" : next;
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = sort;
      const numeric = head.classList.contains("number");
      const rows = [...order];
      if (sort) {
        const sign = sort === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          if (!numeric) return sign * text(a).localeCompare(text(b), "en", { numeric: true });
          const [x, y] = [valueOf(text(a)), valueOf(text(b))];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return x === y ? 0 : sign * (x < y ? -1 : 1);
        });
      }
      body.append(...rows);
    });
  });
}

function filterable(input) {
  const rows = [...input.closest("section").querySelectorAll("tbody tr")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("samples").textContent);
const training = new Map(
  Object.entries(data.train).map(([id, signal]) => [id, { ...signal, id }]),
);
const titleOf = (one) =>
  one.id === undefined ? `${data.rows[one.row]}: sample ${one.number}` : `training: ${one.id}`;

// Fills one half of the dialog, or hides it.
function place(pane, one) {
  pane.hidden = !one;
  if (!one) return;
  const [picture] = pane.getElementsByTagName("img");
  const [canvas] = pane.getElementsByTagName("canvas");
  picture.hidden = Boolean(one.mesh) || !one.picture;
  if (one.picture) picture.src = one.picture;
  if (canvas) {
    canvas.hidden = !one.mesh;
    canvas.setAttribute("aria-label", `${titleOf(one)}, in 3D`);
  }
  pane.querySelector(".none").hidden = Boolean(one.picture);
  pane.querySelector("figcaption").textContent = titleOf(one);
}

// The numbers of a sample, as lines of a list.
function facts(one) {
  const known = [...(one.facts || [])];
  if (typeof one.label === "number") known.unshift(["class", one.label]);
  return known.map(([name, value]) => {
    const line = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      const cell = document.createElement(tag);
      cell.textContent = text;
      line.append(cell);
    }
    return line;
  });
}

// The dialog: a sample beside its nearest training signal. Returns what opens it on one of a list.
function samplesDialog() {
  const dialog = byId("viewer");
  const turning = data.samples.some(({ mesh }) => mesh);
  let walked = []; // what the buttons step through
  let at = 0;

  function step(by) {
    at = (at + by + walked.length) % walked.length;
    const one = walked[at];
    const near = one.near === undefined ? null : training.get(one.near);
    place(byId("pane-sample"), one);
    place(byId("pane-near"), near);
    byId("viewer-title").textContent = titleOf(one);
    byId("place").textContent = `${at + 1} of ${walked.length}`;
    byId("facts").replaceChildren(...facts(one));
    byId("no-mesh").hidden = !turning || !one.picture || Boolean(one.mesh);
    if (turning) viewer.show([one.mesh, near && near.mesh]);
  }

  if (turning) {
    for (const canvas of dialog.getElementsByTagName("canvas")) viewer.add(canvas);
    byId("reset").addEventListener("click", viewer.reset);
  }
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("keydown", (event) => {
    const turns = event.target.tagName === "CANVAS"; // arrow keys turn a shape
    const way = { PageDown: 1, PageUp: -1, ...(turns ? {} : { ArrowRight: 1, ArrowLeft: -1 }) };
    if (!(event.key in way)) return;
    event.preventDefault();
    step(way[event.key]);
  });
  return (list, index) => {
    walked = list;
    at = index;
    viewer.reset();
    dialog.showModal();
    step(0);
  };
}

// Pictures get their source when they come near the screen.
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      target.src = target.one.picture;
      seen.unobserve(target);
    }
  },
  { rootMargin: "400px" },
);

function thumbnail(one) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  const note = document.createElement("span");
  note.textContent =
    one.distance === null ? `#${one.number} empty` : `#${one.number} · ${one.distance.toFixed(2)}`;
  if (one.picture) {
    const image = document.createElement("img");
    image.alt = "";
    image.one = one;
    seen.observe(image);
    button.append(image);
  } else {
    const cross = document.createElement("i");
    cross.textContent = "✕";
    button.append(cross);
  }
  button.append(note);
  button.setAttribute("aria-label", `${titleOf(one)}, ${note.textContent}`);
  return button;
}

// The samples that are chosen above the grid, in the order that is chosen there.
function chosen() {
  const [row, sort, only] = ["row", "sort", "only"].map((id) => byId(id).value);
  const far = (one) => (one.distance === null ? Infinity : one.distance);
  const keeps = {
    all: () => true,
    valid: (one) => one.distance !== null,
    empty: (one) => one.distance === null,
    copies: (one) => one.copy,
  };
  const keep = keeps[only] || ((one) => String(one.label) === only.slice("class ".length));
  const found = data.samples.filter(
    (one) => (row === "all" || one.row === Number(row)) && keep(one),
  );
  if (sort === "near") found.sort((a, b) => far(a) - far(b));
  if (sort === "far") found.sort((a, b) => far(b) - far(a));
  return found;
}

function gallery(open) {
  const grid = byId("grid");
  const firstStop = rove(grid, ".thumb");
  function fill() {
    const shown = chosen();
    seen.disconnect();
    grid.replaceChildren(...shown.map(thumbnail));
    [...grid.children].forEach((button, i) =>
      button.addEventListener("click", () => open(shown, i)),
    );
    byId("count").textContent = `${shown.length} of ${data.samples.length} samples`;
    if (shown.length) firstStop();
  }
  for (const id of ["row", "sort", "only"]) byId(id).addEventListener("change", fill);
  fill();
}

// The pictures above everything: of samples, and of what the model was trained on.
function firstPictures(group, open) {
  const buttons = [...group.querySelectorAll(".thumb")];
  const list = buttons.map(({ dataset }) =>
    dataset.train === undefined ? data.samples[Number(dataset.sample)] : training.get(dataset.train),
  );
  buttons.forEach((button, i) => button.addEventListener("click", () => open(list, i)));
  rove(group, ".thumb")();
}

const show = samplesDialog();
document.querySelectorAll(".first").forEach((group) => firstPictures(group, show));
gallery(show);
document.querySelectorAll("table").forEach(sortable);
document.querySelectorAll("input.filter").forEach(filterable);
