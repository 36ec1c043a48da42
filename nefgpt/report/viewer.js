"use strict";

// Draws the page's meshes into canvases that turn together. It keeps a depth buffer of its own instead of using
// WebGL: the same picture in every browser, and enough for the few thousand faces of a mesh.
const viewer = (() => {
  const START = { azimuth: 40, elevation: 30, zoom: 1 };
  const DRAG = 0.5; // degrees a pixel
  const STEP = 6; // degrees a key
  // Lights, colours and creases of the figures (nefgpt/signals/render.py): in camera coordinates.
  const KEY_LIGHT = [-0.437, 0.728, 0.534];
  const FILL_LIGHT = [0.868, 0.109, 0.488];
  const FRONT = [168, 186, 209];
  const BACK = [219, 92, 77];
  const CREASE_COSINE = 0.75;

  const BITS = 12; // of a packed coordinate (nefgpt/report/viewer.py)

  const panes = [];
  let view = { ...START };
  // One scale for all that is shown, so that meshes keep their sizes; none leaves the view.
  let reach = 1;
  let queued = false;

  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function normalise(vectors) {
    for (let i = 0; i < vectors.length; i += 3) {
      const length = Math.hypot(vectors[i], vectors[i + 1], vectors[i + 2]) || 1;
      for (let k = 0; k < 3; k++) vectors[i + k] /= length;
    }
  }

  // Vertices, faces, and the normals of both; three numbers each.
  async function unpack(packed) {
    const bytes = await inflated(packed.data);
    const [nVertices, nFaces] = packed.counts;
    const words = (start, count) =>
      Int32Array.from({ length: count }, (_, i) => bytes[start + i] | (bytes[start + count + i] << 8));
    const steps = words(0, 3 * nVertices);
    const vertices = new Float32Array(3 * nVertices);
    for (let k = 0; k < 3; k++) {
      for (let i = 0, level = 0; i < nVertices; i++) {
        level = (level + steps[k * nVertices + i]) & 0xffff;
        vertices[3 * i + k] = ((2 * level) / (2 ** BITS - 1) - 1) * packed.scale;
      }
    }
    const faces = words(6 * nVertices, 3 * nFaces);
    for (let i = 0, unnamed = 0; i < faces.length; i++) {
      faces[i] = unnamed - faces[i];
      if (faces[i] === unnamed) unnamed += 1;
    }
    const normals = new Float32Array(vertices.length);
    const faceNormals = new Float32Array(faces.length);
    for (let face = 0; face < faces.length; face += 3) {
      const corners = [3 * faces[face], 3 * faces[face + 1], 3 * faces[face + 2]];
      const [a, b, c] = corners;
      const u = [0, 1, 2].map((k) => vertices[b + k] - vertices[a + k]);
      const v = [0, 1, 2].map((k) => vertices[c + k] - vertices[a + k]);
      for (let k = 0; k < 3; k++) {
        const [l, m] = [(k + 1) % 3, (k + 2) % 3];
        const value = u[l] * v[m] - u[m] * v[l];
        faceNormals[face + k] = value;
        for (const corner of corners) normals[corner + k] += value;
      }
    }
    normalise(normals);
    normalise(faceNormals);
    return { vertices, faces, normals, faceNormals };
  }

  // Rows: the camera's right, up and backward axes.
  function camera() {
    const azimuth = (view.azimuth * Math.PI) / 180;
    const elevation = (view.elevation * Math.PI) / 180;
    const [sa, ca] = [Math.sin(azimuth), Math.cos(azimuth)];
    const [se, ce] = [Math.sin(elevation), Math.cos(elevation)];
    return [-ca, 0, -sa, -sa * se, ce, ca * se, sa * ce, se, -ca * ce];
  }

  function rotate(rotation, vectors) {
    const rotated = new Float32Array(vectors.length);
    for (let i = 0; i < vectors.length; i += 3) {
      for (let row = 0; row < 3; row++) {
        rotated[i + row] =
          rotation[3 * row] * vectors[i] +
          rotation[3 * row + 1] * vectors[i + 1] +
          rotation[3 * row + 2] * vectors[i + 2];
      }
    }
    return rotated;
  }

  // Light on a normal that starts at index i; sign -1 for a face seen from behind.
  function light(normals, i, sign) {
    const [x, y, z] = [sign * normals[i], sign * normals[i + 1], sign * normals[i + 2]];
    const key = KEY_LIGHT[0] * x + KEY_LIGHT[1] * y + KEY_LIGHT[2] * z;
    const fill = FILL_LIGHT[0] * x + FILL_LIGHT[1] * y + FILL_LIGHT[2] * z;
    return 0.3 + 0.1 * y + 0.62 * Math.max(0, key) + 0.26 * Math.max(0, fill);
  }

  // Twice the size at which it is shown, for smooth edges.
  function fitToCanvas(pane) {
    const { canvas, context } = pane;
    const width = Math.max(1, 2 * canvas.clientWidth);
    const height = Math.max(1, 2 * canvas.clientHeight);
    if (pane.image && canvas.width === width && canvas.height === height) return;
    canvas.width = width;
    canvas.height = height;
    pane.image = context.createImageData(width, height);
    pane.depth = new Float32Array(width * height);
  }

  // One triangle into a pane's image and depth: corners are indices into points and normals.
  function fill({ image, depth }, points, corners, brightness, color) {
    const { width, height, data: pixels } = image;
    const [a, b, c] = corners;
    const [ax, ay, az] = [points[a], points[a + 1], points[a + 2]];
    const [ux, uy, uz] = [points[b] - ax, points[b + 1] - ay, points[b + 2] - az];
    const [vx, vy, vz] = [points[c] - ax, points[c + 1] - ay, points[c + 2] - az];
    const area = ux * vy - uy * vx;
    if (area === 0) return;
    const left = Math.max(0, Math.ceil(ax + Math.min(0, ux, vx) - 0.5));
    const right = Math.min(width - 1, Math.floor(ax + Math.max(0, ux, vx) - 0.5));
    const top = Math.max(0, Math.ceil(ay + Math.min(0, uy, vy) - 0.5));
    const bottom = Math.min(height - 1, Math.floor(ay + Math.max(0, uy, vy) - 0.5));
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const [dx, dy] = [x + 0.5 - ax, y + 0.5 - ay];
        const p = (dx * vy - dy * vx) / area;
        const q = (dy * ux - dx * uy) / area;
        if (p < -1e-6 || q < -1e-6 || p + q > 1.000001) continue;
        const at = y * width + x;
        const z = az + p * uz + q * vz;
        if (z <= depth[at]) continue;
        depth[at] = z;
        const [l0, l1, l2] = brightness;
        const shade = l0 + p * (l1 - l0) + q * (l2 - l0);
        for (let k = 0; k < 3; k++) pixels[4 * at + k] = color[k] * shade;
        pixels[4 * at + 3] = 255;
      }
    }
  }

  function draw(pane) {
    fitToCanvas(pane);
    const { mesh, image } = pane;
    image.data.fill(0);
    pane.depth.fill(-Infinity);
    const rotation = camera();
    const points = rotate(rotation, mesh.vertices);
    const normals = rotate(rotation, mesh.normals);
    const faceNormals = rotate(rotation, mesh.faceNormals);
    const { width, height } = image;
    const scale = (0.48 * Math.min(width, height) * view.zoom) / reach;
    for (let i = 0; i < points.length; i += 3) {
      points[i] = width / 2 + scale * points[i];
      points[i + 1] = height / 2 - scale * points[i + 1];
    }
    for (let face = 0; face < mesh.faces.length; face += 3) {
      const sign = faceNormals[face + 2] < 0 ? -1 : 1;
      const corners = [0, 1, 2].map((k) => 3 * mesh.faces[face + k]);
      const brightness = corners.map((corner) => {
        let cosine = 0;
        for (let k = 0; k < 3; k++) cosine += normals[corner + k] * faceNormals[face + k];
        return cosine < CREASE_COSINE
          ? light(faceNormals, face, sign)
          : light(normals, corner, sign);
      });
      fill(pane, points, corners, brightness, sign > 0 ? FRONT : BACK);
    }
    pane.context.putImageData(image, 0, 0);
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      panes.filter(({ mesh, canvas }) => mesh && canvas.clientWidth).forEach(draw);
    });
  }

  function turn(azimuth, elevation) {
    view.azimuth += azimuth;
    view.elevation = Math.max(-89, Math.min(89, view.elevation + elevation));
    redraw();
  }

  function zoom(factor) {
    view.zoom = Math.max(0.3, Math.min(12, view.zoom * factor));
    redraw();
  }

  function reset() {
    view = { ...START };
    redraw();
  }

  const KEYS = {
    ArrowLeft: () => turn(-STEP, 0),
    ArrowRight: () => turn(STEP, 0),
    ArrowUp: () => turn(0, -STEP),
    ArrowDown: () => turn(0, STEP),
    "+": () => zoom(1.15),
    "=": () => zoom(1.15), // the key of + on many keyboards
    "-": () => zoom(1 / 1.15),
  };

  function listen(canvas) {
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    // Fingers, or the mouse while a button is down: one turns, two zoom.
    const pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      pointers.set(event.pointerId, event);
      if (pointers.size === 1) {
        turn(DRAG * (event.clientX - before.clientX), DRAG * (event.clientY - before.clientY));
        return;
      }
      const other = [...pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
      const apart = ({ clientX, clientY }) =>
        Math.hypot(clientX - other.clientX, clientY - other.clientY);
      zoom(apart(event) / Math.max(1, apart(before)));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    // The wheel scrolls until the shape has the focus.
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (document.activeElement !== canvas && !event.ctrlKey) return;
        event.preventDefault();
        zoom(Math.exp(-0.0015 * event.deltaY));
      },
      { passive: false },
    );
    new ResizeObserver(redraw).observe(canvas);
  }

  // Makes a canvas a pane that turns with all others.
  function add(canvas) {
    panes.push({ canvas, context: canvas.getContext("2d"), mesh: null });
    listen(canvas);
  }

  // Shows a packed mesh, or none, in each pane; an earlier call that is not done yet does nothing.
  let latest = 0;
  async function show(packed) {
    const turnOf = (latest += 1);
    const meshes = await Promise.all(packed.map((mesh) => mesh && unpack(mesh)));
    if (turnOf !== latest) return;
    reach = Math.max(...packed.map((mesh) => (mesh ? mesh.radius : 0)));
    panes.forEach((pane, i) => {
      pane.mesh = meshes[i];
    });
    redraw();
  }

  return { add, show, reset };
})();
