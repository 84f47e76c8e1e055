// The tree, its leaves before and after, and the level of noise. The whole trajectory is here, so
// that moving the level repaints at once, without asking Python.
// Sends {kind: "set", value, done, view, seq}; draws `picture` (see `components.Tree`).

const SEND_EVERY = 100      // ms between two messages of a drag
const PLAY_SECONDS = 14     // from level 0 to level 1
const UNCHANGED = 255

function numbers(text, Type) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
  return new Type(bytes.buffer)
}

function unpack(picture) {
  if (!picture.levels) return null
  const {s, L, v} = picture, starts = [0]
  for (let d = 0; d <= L; d++) starts.push(starts[d] + s ** d)
  return {
    ...picture, s, L, v, starts, nodes: starts[L + 1], leaves: s ** L,
    before: numbers(picture.before, Uint8Array), after: numbers(picture.after, Uint8Array),
    begins: numbers(picture.begins, Uint8Array), marginal: numbers(picture.marginal, Uint16Array),
    noised: picture.noised ? numbers(picture.noised, Int16Array) : null,
  }
}

export function render({model}) {
  let data = unpack(model.picture), level = model.level, seq = 0, sent_at = 0, timer = 0, typing = false
  let held = false, playing = 0, frame = 0, shape = null, at = null
  const view = Math.random().toString(36).slice(2)   // the same lens may be on screen twice

  const play = element("button", {type: "button", class: "play", "aria-label": "play", title: "play: from no noise to all"})
  const label = element("span", {class: "label"})
  const range = element("input", {type: "range", min: 0, max: 1, step: 0.01})
  const mark = element("span", {class: "mark", "aria-hidden": "true"})
  const number = element("input", {type: "number", min: 0, max: 1, step: 0.01})
  const says = element("div", {class: "says", role: "status"})
  const canvas = element("canvas", {tabindex: 0, role: "img"})
  const tip = element("div", {class: "tip"}); tip.hidden = true
  const stage = element("div", {class: "stage"}, canvas, tip)
  const root = element("div", {class: "rhm-tree"},
    element("div", {class: "bar"}, play, label, element("div", {class: "track"}, mark, range), number, says), stage)

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
    level = Math.min(1, Math.max(0, Math.round(value * 100) / 100))
    fields(); soon()
    if (done) send(true); else send_soon()
  }
  function fields() {
    range.value = level
    if (!typing) number.value = level.toFixed(2)
    range.style.setProperty("--at", `${100 * level}%`)
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
      if (Math.abs(exact - level) >= 0.01 || exact >= 1) go(Math.min(1, exact), false)
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

  // The drawing

  function soon() { if (!frame) frame = requestAnimationFrame(draw) }
  function index() {
    let best = 0
    data.levels.forEach((x, i) => { if (Math.abs(x - level) < Math.abs(data.levels[best] - level)) best = i })
    return best
  }
  function measure() {
    const width = canvas.clientWidth, height = canvas.clientHeight, dpr = window.devicePixelRatio || 1
    if (canvas.width !== Math.round(width * dpr) || canvas.height !== Math.round(height * dpr)) {
      canvas.width = Math.round(width * dpr); canvas.height = Math.round(height * dpr)
    }
    const size = Math.max(12, Math.min(15, width / 80))
    const left = 4.2 * size + 20, right = width - 12, strip = Math.max(13, Math.min(22, height * 0.045))
    const rows = data.noised ? ["before", "seen", "after"] : ["before", "after"]
    const below = rows.length * (strip + 3) + strip + 12
    const top = 14, bottom = height - below
    shape = {
      dpr, size, width, height, left, right, strip, top, bottom,
      rows: rows.map((name, i) => [name, bottom + 9 + i * (strip + 3)]),
      bands: bottom + 9 + rows.length * (strip + 3) + 1,
      cell: (right - left) / data.leaves,
      x: (d, i) => left + (right - left) * (i + 0.5) / data.s ** d,
      y: (d) => top + (bottom - top) * d / data.L,
      radius: (d) => Math.max(Math.min(7.5 - 5 * d / data.L, 0.42 * (right - left) / data.s ** d), 1.3),
    }
  }

  function draw() {
    frame = 0
    if (!canvas.clientWidth) return
    if (!data) { says.textContent = "growing the first tree…"; return }
    measure()
    const k = index(), {nodes, leaves, starts, s, L} = data, begins = data.begins.subarray(k * nodes, (k + 1) * nodes)
    const context = canvas.getContext("2d"), ink = getComputedStyle(root).color
    context.setTransform(shape.dpr, 0, 0, shape.dpr, 0, 0)
    context.clearRect(0, 0, shape.width, shape.height)
    context.font = `${shape.size}px ${getComputedStyle(root).fontFamily}`
    cones(context, begins); edges(context, begins, ink); circles(context, begins, k, ink)
    strips(context, begins, k, ink); chunks(context, begins); words(context, ink)
    if (at) ring(context, ink)
    status(begins, k)
    root.dataset.level = data.levels[k].toFixed(2)
    root.dataset.changed = begins.subarray(starts[L]).reduce((n, b) => n + (b !== UNCHANGED), 0)
  }
  const tops = function* (begins) {            // topmost changed nodes, and the leaves they moved
    for (let d = 0; d <= data.L; d++) for (let i = 0; i < data.s ** d; i++) {
      if (begins[data.starts[d] + i] !== d) continue
      const span = data.s ** (data.L - d), first = i * span
      let moved = 0
      for (let leaf = first; leaf < first + span; leaf++) moved += begins[data.starts[data.L] + leaf] === d
      yield {d, i, first, span, moved}
    }
  }
  function cones(context, begins) {
    for (const {d, i, first, span} of tops(begins)) {
      if (d === data.L) continue
      const x0 = shape.left + first * shape.cell, x1 = x0 + span * shape.cell, y = shape.y(d)
      context.beginPath(); context.moveTo(shape.x(d, i), y)
      context.lineTo(x1, shape.bottom + 6); context.lineTo(x0, shape.bottom + 6); context.closePath()
      context.fillStyle = data.depth_colours[d]; context.globalAlpha = 0.12; context.fill()
    }
    context.globalAlpha = 1
  }
  function edges(context, begins, ink) {
    const paths = new Map()
    for (let d = 1; d <= data.L; d++) for (let i = 0; i < data.s ** d; i++) {
      const b = begins[data.starts[d] + i], key = b < d ? b : UNCHANGED
      if (!paths.has(key)) paths.set(key, new Path2D())
      const path = paths.get(key), parent = Math.floor(i / data.s)
      const x0 = shape.x(d - 1, parent), y0 = shape.y(d - 1), x1 = shape.x(d, i), y1 = shape.y(d), middle = (y0 + y1) / 2
      path.moveTo(x0, y0); path.bezierCurveTo(x0, middle, x1, middle, x1, y1)
    }
    for (const [key, path] of paths) {
      context.strokeStyle = key === UNCHANGED ? ink : data.depth_colours[key]
      context.globalAlpha = key === UNCHANGED ? 0.22 : 1
      context.lineWidth = key === UNCHANGED ? 0.8 : 2.2
      context.stroke(path)
    }
    context.globalAlpha = 1
  }
  function circles(context, begins, k, ink) {
    for (let d = 0; d <= data.L; d++) for (let i = 0; i < data.s ** d; i++) {
      const n = data.starts[d] + i, b = begins[n], r = shape.radius(d)
      context.beginPath(); context.arc(shape.x(d, i), shape.y(d), b === d ? r + 1.6 : r, 0, 2 * Math.PI)
      if (b === UNCHANGED) {                   // the surer the posterior, the fuller the node
        context.fillStyle = ink; context.globalAlpha = 0.08 + 0.5 * data.marginal[k * data.nodes + n] / 65535
        context.fill(); context.globalAlpha = 1
      } else {
        context.fillStyle = data.depth_colours[b]; context.fill()
        if (b === d && r > 1.8) { context.lineWidth = 1.5; context.strokeStyle = ink; context.stroke() }
      }
    }
  }
  function symbol_row(context, y, height, colour_of) {
    const gap = shape.cell > 4 ? 1 : 0
    for (let i = 0; i < data.leaves; i++) {
      const colour = colour_of(i)
      if (!colour) continue
      context.fillStyle = colour
      context.fillRect(shape.left + i * shape.cell, y, Math.max(shape.cell - gap, 0.6), height)
    }
  }
  function strips(context, begins, k, ink) {
    const leaf = data.starts[data.L], after = data.after.subarray(k * data.nodes + leaf), colours = data.symbol_colours
    const seen = data.noised?.subarray(k * data.leaves)
    const symbols = {before: (i) => data.before[leaf + i], after: (i) => after[i], seen: (i) => seen[i]}
    for (const [name, y] of shape.rows) {
      if (name === "after") {                  // what did not change steps back
        context.globalAlpha = 0.25; symbol_row(context, y, shape.strip, (i) => colours[after[i]])
        context.globalAlpha = 1
        symbol_row(context, y, shape.strip, (i) => begins[leaf + i] === UNCHANGED ? null : colours[after[i]])
      } else symbol_row(context, y, shape.strip, (i) => colours[symbols[name](i)])
      context.fillStyle = ink; context.textAlign = "right"; context.textBaseline = "middle"
      context.fillText(name, shape.left - 8, y + shape.strip / 2)
    }
  }
  function chunks(context, begins) {
    const y = shape.bands, height = shape.strip, leaf = data.starts[data.L], labels = []
    for (const {d, first, span, moved} of tops(begins)) {
      if (!moved) continue
      context.fillStyle = data.depth_colours[d]; context.globalAlpha = 0.22
      context.fillRect(shape.left + first * shape.cell + 0.5, y, Math.max(span * shape.cell - 1, 0.6), height)
      context.globalAlpha = 1
      let run = 0, best = 0, middle = 0        // the number stands on the longest run of moved leaves
      for (let i = first; i < first + span; i++) {
        run = begins[leaf + i] === d ? run + 1 : 0
        if (run > best) { best = run; middle = i + 1 - run / 2 }
        if (run) context.fillRect(shape.left + i * shape.cell, y, Math.max(shape.cell - (shape.cell > 4 ? 1 : 0), 0.6), height)
      }
      if (best * shape.cell > 17) labels.push([String(moved), shape.left + middle * shape.cell])
    }
    context.textAlign = "center"; context.textBaseline = "middle"
    for (const [text, x] of labels) outlined(context, text, x, y + height / 2 + 0.5)
  }
  function outlined(context, text, x, y) {
    context.save(); context.lineWidth = 3; context.strokeStyle = "#0009"; context.lineJoin = "round"; context.fillStyle = "#fff"
    context.strokeText(text, x, y); context.fillText(text, x, y); context.restore()
  }
  function words(context, ink) {
    context.textAlign = "right"; context.textBaseline = "middle"
    const room = (shape.bottom - shape.top) / data.L
    for (let d = 0; d <= data.L; d++) {
      if (room < 15 && d % 2 && d !== data.L) continue
      const y = shape.y(d), name = d === 0 ? "root" : d === data.L ? "leaves" : `depth ${d}`
      context.fillStyle = ink; context.fillText(name, shape.left - 20, y)
      context.fillStyle = data.depth_colours[d]
      context.beginPath(); context.arc(shape.left - 11, y, 4, 0, 2 * Math.PI); context.fill()
    }
    context.fillStyle = ink; context.fillText("chunks", shape.left - 8, shape.bands + shape.strip / 2)
  }
  function status(begins, k) {
    const sizes = [...tops(begins)].map(({moved}) => moved).filter(Boolean).sort((a, b) => b - a)
    const total = sizes.reduce((a, b) => a + b, 0), near = Math.abs(data.levels[k] - level) > 0.004
    const what = sizes.length ? `${total} of ${data.leaves} leaves changed, in ${sizes.length === 1 ? "1 chunk" : `${sizes.length} chunks; the largest has ${sizes[0]}`}`
      : `none of ${data.leaves} leaves changed`
    says.textContent = model.note || (near ? `tree at ${data.levels[k].toFixed(2)}, finer levels are coming: ${what}` : what)
    canvas.setAttribute("aria-label", `tree at ${model.name_of_level} = ${data.levels[k].toFixed(2)}: ${what}`)
  }

  // Nodes under the pointer, or reached with the arrow keys

  function node_at(px, py) {
    if (py > shape.bottom + 6) {
      const i = Math.floor((px - shape.left) / shape.cell)
      return i >= 0 && i < data.leaves ? {d: data.L, i} : null
    }
    const d = Math.round((py - shape.top) / (shape.bottom - shape.top) * data.L)
    if (d < 0 || d > data.L) return null
    const i = Math.floor((px - shape.left) / (shape.right - shape.left) * data.s ** d)
    if (i < 0 || i >= data.s ** d || Math.abs(px - shape.x(d, i)) > Math.max(12, shape.cell)) return null
    return {d, i}
  }
  function ring(context, ink) {
    context.beginPath(); context.arc(shape.x(at.d, at.i), shape.y(at.d), shape.radius(at.d) + 5, 0, 2 * Math.PI)
    context.strokeStyle = ink; context.lineWidth = 1.5; context.stroke()
  }
  function show_tip() {
    tip.hidden = !at || !data || !shape
    if (tip.hidden) return
    const k = index(), n = data.starts[at.d] + at.i, b = data.begins[k * data.nodes + n]
    const before = data.before[n], after = data.after[k * data.nodes + n], posterior = data.marginal[k * data.nodes + n] / 65535
    const place = at.d === 0 ? "the root (class)" : at.d === data.L ? `leaf ${at.i + 1} of ${data.leaves}` : `depth ${at.d}, node ${at.i + 1} of ${data.s ** at.d}`
    const lines = [place]
    if (at.d === data.L && data.noised) {
      const seen = data.noised[k * data.leaves + at.i]
      lines.push(seen < 0 ? "nothing is seen of it" : `seen as ${seen}`)
    }
    if (b === UNCHANGED) lines.push(`symbol ${before}, kept`)
    else lines.push(`symbol ${before} → ${after}: changed`, b === at.d ? "a chunk begins here" : `with its ${b === 0 ? "root" : `ancestor at depth ${b}`}`)
    lines.push(`exact posterior of ${before}: ${posterior.toFixed(4)}`)
    tip.replaceChildren(...lines.map((text, i) => element("div", {text, class: i ? "" : "head"})))
    const x = shape.x(at.d, at.i), y = shape.y(at.d)
    tip.style.left = `${Math.min(Math.max(8, x + 14), shape.width - tip.offsetWidth - 8)}px`
    tip.style.top = `${Math.min(y + 14, shape.height - tip.offsetHeight - 4)}px`
  }
  function look(place) { at = place; soon(); requestAnimationFrame(show_tip) }
  canvas.addEventListener("pointermove", (event) => { if (data && shape) look(node_at(event.offsetX, event.offsetY)) })
  canvas.addEventListener("pointerleave", () => look(null))
  canvas.addEventListener("blur", () => look(null))
  canvas.addEventListener("keydown", (event) => {
    if (!data || !event.key.startsWith("Arrow")) return
    event.preventDefault()
    const now = at ?? {d: 0, i: -1}, width = data.s ** now.d
    if (!at) look({d: 0, i: 0})
    else if (event.key === "ArrowUp" && now.d > 0) look({d: now.d - 1, i: Math.floor(now.i / data.s)})
    else if (event.key === "ArrowDown" && now.d < data.L) look({d: now.d + 1, i: now.i * data.s})
    else if (event.key === "ArrowRight") look({d: now.d, i: Math.min(now.i + 1, width - 1)})
    else if (event.key === "ArrowLeft") look({d: now.d, i: Math.max(now.i - 1, 0)})
  })

  // What Python says

  function told() {
    label.textContent = model.name_of_level
    range.setAttribute("aria-label", model.title); number.setAttribute("aria-label", `${model.title}, exact value`)
    mark.hidden = !(model.threshold > 0); mark.style.left = `calc(7px + (100% - 14px) * ${model.threshold})`
    mark.title = `threshold ε* = ${model.threshold.toFixed(3)} (mean field)`
    // An older echo is not the truth while a newer level waits to be sent, or is on its way.
    if (!held && !playing && !timer && (model.heard[view] ?? 0) >= seq) { level = model.level; fields() }
    soon()
  }
  model.on("picture", () => { data = unpack(model.picture); at = null; show_tip(); soon() })
  model.on(["level", "heard", "name_of_level", "title", "threshold", "note"], told)
  // A change of theme is a transition of the ink: repaint when it is through.
  root.addEventListener("transitionend", (event) => { if (event.propertyName === "color") soon() })
  const observer = new ResizeObserver(soon)
  observer.observe(canvas)
  model.on("remove", () => { observer.disconnect(); cancelAnimationFrame(playing); clearTimeout(timer) })
  told(); fields(); buttons()
  return root
}
