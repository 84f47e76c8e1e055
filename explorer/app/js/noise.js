// A picture, the same with noise, and what comes back when the noise is taken out again. Noise and
// finished levels are here, so that moving the level repaints at once, without asking Python.
// Sends {kind: "set", value, done, view, seq}, {kind: "opacity", value, done}, {kind: "variant", value},
// and a file that is dropped on the pictures, as handing.js says.

const SEND_EVERY = 100      // ms between two messages of a drag
const PLAY_SECONDS = 14     // from level 0 to level 1
const NOISE_SCALE = 4096
const FILM_ROWS = 2         // variants under each other in the filmstrip

function numbers(text, Type) {
  if (!text) return null
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
  return new Type(bytes.buffer)
}

export function render({model}) {
  let level = model.level, variant = model.variant, opacity = model.opacity, seq = 0, sent_at = 0
  let timer = 0, typing = false, held = false, fading = false, playing = 0, frame = 0
  let sides = []
  const view = Math.random().toString(36).slice(2)   // the same lens may be on screen twice

  const play = element("button", {type: "button", class: "play", "aria-label": "play", title: "play: from no noise to all"})
  const range = element("input", {type: "range", min: 0, max: 1, "aria-label": "noise level t / T"})
  const number = element("input", {type: "number", min: 0, max: 1, "aria-label": "noise level t / T, exact value"})
  const says = element("div", {class: "says", role: "status"})
  const fade = element("input", {type: "range", min: 0, max: 1, step: 0.05, "aria-label": "opacity of the change map"})
  const fader = element("label", {class: "fader"}, element("span", {text: "change map"}), fade)
  const body = element("div", {class: "sides"})
  const root = element("div", {class: "noise-denoise"},
    element("div", {class: "bar"}, play, element("span", {class: "label", text: "t / T"}), element("div", {class: "track"}, range), number, fader, says), body)

  // The level

  function send(done) {
    clearTimeout(timer); timer = 0; sent_at = performance.now()
    model.send_msg({kind: "set", value: level, done, view, seq: ++seq})
  }
  function send_soon() {
    const wait = SEND_EVERY - (performance.now() - sent_at)
    if (wait <= 0) send(false)
    else if (!timer) timer = setTimeout(() => send(false), wait)
  }
  function go(value, done) {
    level = Math.min(1, Math.max(0, Math.round(value * model.steps) / model.steps))
    fields(); soon()
    if (done) send(true); else send_soon()
  }
  function fields() {
    range.value = level
    if (!typing) number.value = level.toFixed(2)
    range.style.setProperty("--at", `${100 * level}%`)
    fade.value = opacity
    fade.style.setProperty("--at", `${100 * opacity}%`)
  }
  function stop() {
    if (!playing) return
    cancelAnimationFrame(playing); playing = 0; buttons(); send(true)
  }
  function start() {
    if (level >= 1) level = 0
    let exact = level, last = performance.now()
    const step = (now) => {
      exact += (now - last) / 1000 / PLAY_SECONDS; last = now
      if (Math.abs(exact - level) >= 1 / model.steps || exact >= 1) go(Math.min(1, exact), false)
      if (exact >= 1) { playing = 0; buttons(); send(true) } else playing = requestAnimationFrame(step)
    }
    playing = requestAnimationFrame(step); buttons()
  }
  function buttons() {
    play.setAttribute("aria-pressed", String(Boolean(playing)))
    play.setAttribute("aria-label", playing ? "pause" : "play")
    play.classList.toggle("playing", Boolean(playing))
  }
  play.addEventListener("click", () => playing ? stop() : start())
  range.addEventListener("pointerdown", () => { held = true; stop() })
  for (const name of ["pointerup", "pointercancel", "blur"]) range.addEventListener(name, () => { held = false })
  range.addEventListener("input", () => { stop(); go(Number(range.value), false) })
  range.addEventListener("change", () => { held = false; go(Number(range.value), true) })
  number.addEventListener("input", () => { typing = true })       // what Python says must not overwrite it
  for (const name of ["change", "blur"]) number.addEventListener(name, () => { typing = false })
  number.addEventListener("change", () => { if (number.value !== "") { stop(); go(Number(number.value), true) } else fields() })
  number.addEventListener("keydown", (event) => { if (event.key === "Enter") { number.blur(); number.focus() } })
  fade.addEventListener("input", () => { fading = true; opacity = Number(fade.value); fields(); soon() })
  fade.addEventListener("change", () => { fading = false; model.send_msg({kind: "opacity", value: Number(fade.value), done: true}) })
  function choose(k) {
    variant = k; soon()
    model.send_msg({kind: "variant", value: k})
  }

  // What Python sent: fixed parts, then levels, each with its pictures loaded once

  function build() {
    const known = sides
    sides = model.sides.map((given, i) => {
      const before = known[i]
      return {
        ...given, pixels: numbers(given.original, Uint8Array), z: numbers(given.noise, Int16Array),
        rows: before && before.original === given.original && before.noise === given.noise ? before.rows : new Map(),
      }
    })
    body.replaceChildren(...sides.map((side) => parts(side)))
    body.classList.toggle("pair", sides.length > 1)
    levels()
  }
  function levels() {
    sides.forEach((side, i) => {
      const given = {...(model.rows[i] ?? {})}, fresh = model.fresh[i]
      if (fresh && (!given[fresh.point] || given[fresh.point].preview)) given[fresh.point] = fresh
      const rows = new Map()
      for (const row of Object.values(given)) rows.set(row.point, loaded(row, side.rows.get(row.point)))
      side.rows = rows
    })
    soon()
  }
  function loaded(row, before) {
    const made = {...row, field: numbers(row.change, Uint8Array), pictures: {}}
    for (const name of ["sheet", "noised"]) {
      if (before && before[name] === row[name]) { made.pictures[name] = before.pictures[name]; continue }
      const held = made.pictures[name] = {image: before?.pictures[name].image}   // until the new one is decoded
      if (!row[name]) continue
      const image = new Image()
      image.onload = () => { held.image = image; soon() }
      image.src = row[name]
    }
    return made
  }
  function nearest(side) {
    const at = level * side.steps
    let best = null
    for (const row of side.rows.values()) if (!best || Math.abs(row.point - at) < Math.abs(best.point - at)) best = row
    return best
  }

  // The elements of one side

  function picture(words, kind) {
    const canvas = element("canvas", {class: "pixels", role: "img", "aria-label": words}), over = element("canvas", {class: "over"})
    const caption = element("figcaption", {text: words})
    return {canvas, over, caption, node: element("figure", {class: kind}, element("div", {class: "frame"}, canvas, over), caption)}
  }
  function parts(side) {
    side.x0 = picture("picture x₀", "x0"); side.xt = picture("noised x_t", "xt"); side.out = picture("variant", "out")
    side.strip = element("div", {class: "strip", role: "group", "aria-label": "variants"})
    side.tiles = Array.from({length: side.samples}, (_, k) => {
      const canvas = element("canvas", {class: "pixels"}), button = element("button", {type: "button", class: "tile"}, canvas)
      button.addEventListener("click", () => choose(k))
      side.strip.append(button)
      return {canvas, button}
    })
    side.strip.style.setProperty("--columns", side.columns)
    side.strip.style.setProperty("--wide", Math.min(side.samples, Math.max(8, Math.ceil(side.samples / 2))))
    side.stage = element("div", {class: "stage"}, side.x0.node, side.xt.node, side.out.node, side.strip)
    side.film = element("div", {class: "film", role: "group", "aria-label": "same noise, all levels"})
    side.head = element("div", {class: "head"})
    side.node = element("section", {class: "side"}, side.head, side.stage, side.film)
    return side.node
  }

  // The drawing

  function soon() { if (!frame) frame = requestAnimationFrame(draw) }
  function draw() {
    frame = 0
    const film = model.view === "filmstrip"
    fader.hidden = film || !sides.length
    if (!sides.length) { says.textContent = model.note; return }
    for (const side of sides) {
      side.stage.hidden = film; side.film.hidden = !film
      side.head.textContent = [sides.length > 1 || side.precomputed ? side.title : "", side.precomputed ? `precomputed (${side.precomputed})` : ""].filter(Boolean).join(" · ")
      side.head.hidden = !side.head.textContent
      const row = nearest(side)
      if (film) draw_film(side, row); else draw_stage(side, row)
    }
    status()
  }
  function paint(canvas, height, width, fill) {
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height }
    fill(canvas.getContext("2d"))
  }
  function paint_picture(canvas, side, value) {
    const [height, width, channels] = side.size
    paint(canvas, height, width, (context) => {
      const image = context.createImageData(width, height)
      for (let i = 0; i < height * width; i++) {
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = value(i * channels + (channels === 3 ? c : 0))
        image.data[4 * i + 3] = 255
      }
      context.putImageData(image, 0, 0)
    })
  }
  function paint_tile(canvas, side, image, k) {
    if (!image) return
    const rows = Math.ceil(side.samples / side.columns)
    const width = Math.round(image.naturalWidth / side.columns), height = Math.round(image.naturalHeight / rows)
    paint(canvas, height, width, (context) =>
      context.drawImage(image, (k % side.columns) * width, Math.floor(k / side.columns) * height, width, height, 0, 0, width, height))
  }
  function paint_noised(canvas, side, point, row, k) {
    const abar = side.alpha_bar[point]
    if (side.z && abar !== null && abar !== undefined) {
      const signal = Math.sqrt(abar), spread = Math.sqrt(1 - abar) / NOISE_SCALE, from = (side.noises > k ? k : 0) * side.pixels.length
      paint_picture(canvas, side, (i) => (signal * (side.pixels[i] / 127.5 - 1) + spread * side.z[from + i] + 1) * 127.5)
    } else if (row?.pictures.noised.image) paint_tile(canvas, side, row.pictures.noised.image, k)
    else if (point === 0) paint_picture(canvas, side, (i) => side.pixels[i])
    else paint(canvas, side.size[0], side.size[1], (context) => context.clearRect(0, 0, side.size[1], side.size[0]))
  }
  const shown = (side) => Math.min(variant, side.samples - 1)
  function draw_stage(side, row) {
    const k = shown(side), here = Math.round(level * side.steps)
    // A saved run knows how much noise there is at its own levels alone.
    const point = side.z && typeof side.alpha_bar[here] === "number" ? here : row?.point ?? 0
    paint_picture(side.x0.canvas, side, (i) => side.pixels[i])
    paint_noised(side.xt.canvas, side, point, row, k)
    side.xt.caption.textContent = `noised x_t${side.samples > 1 ? `, noise ${side.noises === 1 ? 1 : k + 1}` : ""}`
    side.out.node.classList.toggle("preview", Boolean(row?.preview))
    if (row) paint_tile(side.out.canvas, side, row.pictures.sheet.image, k)
    side.out.caption.textContent = row ? `variant ${k + 1}${row.preview ? ", preview" : ""}` : "no variant yet"
    overlay(side, row, k)
    side.strip.classList.toggle("preview", Boolean(row?.preview))
    side.tiles.forEach(({canvas, button}, i) => {
      if (row) paint_tile(canvas, side, row.pictures.sheet.image, i)
      button.setAttribute("aria-pressed", String(i === k))
      button.setAttribute("aria-label", `variant ${i + 1}${row?.field ? `: ${chunks(row, i).words}` : ""}`)
    })
  }
  function overlay(side, row, k) {
    const box = side.out.canvas.getBoundingClientRect(), dpr = window.devicePixelRatio || 1
    const width = Math.round(box.width * dpr), height = Math.round(box.height * dpr)
    paint(side.out.over, height, width, (context) => {
      context.clearRect(0, 0, width, height)
      if (!row?.field) return
      const [rows, columns] = row.grid, dx = width / columns, dy = height / rows, n = rows * columns
      const at = (y, x) => y < 0 || x < 0 || y >= rows || x >= columns ? 0 : row.field[k * n + y * columns + x]
      context.fillStyle = getComputedStyle(root).getPropertyValue("--accent")
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
        context.globalAlpha = opacity * at(y, x) / 255
        context.fillRect(x * dx, y * dy, dx, dy)
      }
      if (!opacity) return
      context.globalAlpha = 1
      const path = new Path2D(), on = (y, x) => at(y, x) > row.threshold
      for (let y = 0; y <= rows; y++) for (let x = 0; x <= columns; x++) {
        if (on(y, x) !== on(y - 1, x)) { path.moveTo(x * dx, y * dy); path.lineTo((x + 1) * dx, y * dy) }
        if (on(y, x) !== on(y, x - 1)) { path.moveTo(x * dx, y * dy); path.lineTo(x * dx, (y + 1) * dy) }
      }
      context.lineCap = "square"
      for (const [colour, size] of [["#000", 4], ["#fff", 2]]) {
        context.strokeStyle = colour; context.lineWidth = size * dpr; context.stroke(path)
      }
    })
  }
  // Chunks: connected changed patches of one variant; how many patches, and the sizes.
  function chunks(row, k) {
    const [rows, columns] = row.grid, n = rows * columns, seen = new Uint8Array(n), sizes = []
    const on = (i) => row.field[k * n + i] > row.threshold
    for (let first = 0; first < n; first++) {
      if (seen[first] || !on(first)) continue
      const stack = [first]; let size = 0
      seen[first] = 1
      while (stack.length) {
        const i = stack.pop(), x = i % columns; size++
        for (const j of [i - columns, i + columns, x ? i - 1 : -1, x < columns - 1 ? i + 1 : -1]) {
          if (j >= 0 && j < n && !seen[j] && on(j)) { seen[j] = 1; stack.push(j) }
        }
      }
      sizes.push(size)
    }
    const total = sizes.reduce((a, b) => a + b, 0), most = Math.max(0, ...sizes)
    const where = sizes.length === 1 ? "1 chunk" : `${sizes.length} chunks; the largest has ${most}`
    return {total, words: total ? `${total} of ${n} patches changed, in ${where}` : `none of ${n} patches changed`}
  }
  function draw_film(side, here) {
    const rows = [...side.rows.values()].sort((a, b) => a.point - b.point), k = shown(side)
    const names = Array.from({length: FILM_ROWS}, (_, i) => k + i).filter((i) => i < side.samples)
    if (side.film.childElementCount !== rows.length + 1 || side.film.dataset.names !== String(names)) {
      side.film.dataset.names = names
      const words = ["t / T", "noised", ...names.map((i) => `variant ${i + 1}`)].map((text) => element("span", {text}))
      side.film.replaceChildren(element("div", {class: "words"}, ...words), ...rows.map(() => {
        const button = element("button", {type: "button", class: "frame-of"}, element("span"))
        for (let i = 0; i <= names.length; i++) button.append(element("canvas", {class: "pixels"}))
        button.addEventListener("click", () => { stop(); go(Number(button.dataset.level), true) })
        return button
      }))
    }
    side.film.style.setProperty("--frames", rows.length)
    rows.forEach((row, i) => {
      const button = side.film.children[i + 1], [head, noised, ...out] = button.children
      button.dataset.level = row.point / side.steps
      head.textContent = (row.point / side.steps).toFixed(2)
      button.setAttribute("aria-label", `level ${head.textContent}${row.preview ? ", preview" : ""}`)
      button.setAttribute("aria-pressed", String(row === here))
      button.classList.toggle("preview", row.preview)
      paint_noised(noised, side, row.point, row, k)
      out.forEach((canvas, j) => paint_tile(canvas, side, row.pictures.sheet.image, names[j]))
    })
  }
  function status() {
    const side = sides[0], row = nearest(side)
    root.dataset.level = level.toFixed(2)
    root.dataset.shown = row ? (row.point / side.steps).toFixed(2) : ""
    root.dataset.state = !row ? "none" : row.preview ? "preview" : "finished"
    root.dataset.levels = side.rows.size
    if (!row) { says.textContent = model.note; return }
    const exact = row.point === Math.round(level * side.steps), at = (row.point / side.steps).toFixed(2)
    const words = row.field ? chunks(row, shown(side)).words : ""
    const what = row.preview ? "preview: the network's guess at once, a mean and so blurred" : words
    says.textContent = `${exact ? "" : `variants at ${at}: `}${what}`
  }

  // A picture, or a saved run, dropped on one of the sides; beside them it is the first one's

  const side_at = (event) => Math.max(0, sides.findIndex((side) => side.node.contains(event.target)))
  take_drops(root, model, side_at, (at) => {
    root.classList.toggle("over", at !== null && !sides.length)
    sides.forEach((side, i) => side.node.classList.toggle("over", i === at))
  })

  // What Python says

  function told() {
    range.step = number.step = 1 / model.steps
    // An older echo is not the truth while a newer level waits to be sent, or is on its way.
    if (!held && !playing && !timer && (model.heard[view] ?? 0) >= seq) level = model.level
    if (!fading) opacity = model.opacity
    variant = model.variant
    fields(); soon()
  }
  model.on("sides", build)
  model.on(["rows", "fresh"], levels)
  model.on(["level", "heard", "steps", "opacity", "variant", "view", "note"], told)
  const observer = new ResizeObserver(soon)
  observer.observe(root)
  model.on("remove", () => { observer.disconnect(); cancelAnimationFrame(playing); clearTimeout(timer) })
  build(); told(); buttons()
  return root
}
