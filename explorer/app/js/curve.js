// A schedule over depth with handles to drag, and under it the norms of the task vectors, before and
// after. Every curve is linear in its handles (factors = basis * values), and the norms are here
// once and for all, so both follow the hand without asking Python. Sends
//   {kind: "values", values, done, view, seq}  {kind: "add", depth, value}  {kind: "remove", index}
// Text arrives as data and is written with textContent only.

const SVG = "http://www.w3.org/2000/svg"
const SEND_EVERY = 33                    // milliseconds between two messages of one drag
const NOTHING = 1e-9                     // a norm that no task vector has: the axis of none has 0 alone
const LEFT = 48, RIGHT = 14, TOP = 12, GAP = 30, BOTTOM = 36, SLOT = 46

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag)
  put(node, attributes)
  node.append(...children)
  return node
}

function put(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value
    else node.setAttribute(key, value)
  }
  return node
}

function element(tag, className, text = "") {
  const node = document.createElement(tag)
  node.className = className; node.textContent = text
  return node
}

const written = (x) => x.toFixed(2).replace("-", "−")
const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("")
const clamp = (x, low, high) => Math.min(high, Math.max(low, x))

function ticks(low, high) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1].find((s) => (high - low) / s <= 5.01) ?? 2
  const found = []
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + 1e-9; x += step) found.push(Math.round(1e4 * x) / 1e4)
  return found
}

export function render({model}) {
  let values = [], curve = model.curve, seq = 0, held = null, painting = false, sent_at = 0, timer = 0, frame = 0
  let width = 0, height = 0, span = [0, 1.25], largest = 1, focus_after = null
  const view = Math.random().toString(36).slice(2)   // the same lens may be on screen twice

  const svg = draw("svg", {role: "group", "aria-label": "schedule over depth"})
  const tip = element("div", "tip"); tip.hidden = true
  const legend = element("div", "legend")
  const root = element("div", "curve")
  const stage = element("div", "stage")
  stage.append(svg, tip); root.append(stage, legend)
  const grid = draw("g", {class: "grid"}), marks = draw("g"), norms = draw("g"), knobs = draw("g")
  const hover = draw("line", {class: "hover", visibility: "hidden"})
  svg.append(grid, norms, hover, marks, knobs)

  // What follows from the values

  const n = () => curve.depths.length - 2                     // blocks
  const factors = () => curve.basis.map((row) => row.reduce((sum, b, i) => sum + b * values[i], curve.basis[0].length ? 0 : 1))
  const plot = () => {                                        // where the two plots are
    const inner = height - TOP - GAP - BOTTOM
    const first = Math.round(inner * 0.62)
    return {top: TOP, bottom: TOP + first, second: TOP + first + GAP, end: height - BOTTOM}
  }
  const x_of = (place) => {
    const from = LEFT + SLOT + 12, to = width - RIGHT - SLOT - 12
    if (place < 0) return LEFT + SLOT / 2
    if (place > n() - 1) return width - RIGHT - SLOT / 2
    return n() > 1 ? from + (to - from) * place / (n() - 1) : (from + to) / 2
  }
  const y_of = (value) => {
    const {top, bottom} = plot()
    return bottom - (bottom - top) * (value - span[0]) / (span[1] - span[0])
  }
  const value_at = (y) => {
    const {top, bottom} = plot()
    return span[0] + (span[1] - span[0]) * (bottom - y) / (bottom - top)
  }
  const depth_at = (x) => clamp((x - x_of(0)) / ((x_of(n() - 1) - x_of(0)) || 1), 0, 1)
  const norm_y = (value) => {
    const {second, end} = plot()
    return end - (end - second) * Math.min(1.04, value / largest)
  }

  // How far a handle may go: the usual range, or where something stands already. As in Python.
  const lowest = () => Math.floor(Math.min(curve.range[0], ...values)), highest = () => Math.ceil(Math.max(curve.range[1], ...values))

  // The axes hold still under the hand, and fit what is drawn when it lets go.
  function fit() {
    const all = [...values, ...factors()]
    const low = Math.min(0, ...all), high = Math.max(1, ...all)
    span = [low < 0 ? Math.max(lowest(), Math.floor(4 * low - 0.4) / 4) : 0, Math.min(highest(), Math.floor(4 * high + 1.4) / 4)]
    const now = factors()
    largest = 1.08 * Math.max(NOTHING, ...curve.lines.flatMap(({norms}) => norms.flatMap((x, i) => [x, x * Math.abs(now[i])])))
  }

  // Drawing

  function frame_of_axes() {
    const {top, bottom, second, end} = plot(), right = width - RIGHT
    const nodes = []
    for (const value of ticks(...span)) {
      const y = y_of(value)
      nodes.push(draw("line", {x1: LEFT, x2: right, y1: y, y2: y, class: value === 0 || value === 1 ? "rule strong" : "rule"}),
        draw("text", {x: LEFT - 7, y: y + 4, "text-anchor": "end", text: String(value).replace("-", "−")}))
    }
    const percent = largest < 10
    for (const value of largest > 2 * NOTHING ? [0, largest / 1.08] : [0]) {
      const y = norm_y(value)
      nodes.push(draw("line", {x1: LEFT, x2: right, y1: y, y2: y, class: "rule"}),
        draw("text", {x: LEFT - 7, y: y + 4, "text-anchor": "end", text: percent ? `${(100 * value).toPrecision(2)} %` : value.toPrecision(2)}))
    }
    const every = Math.ceil(n() / Math.max(4, Math.floor((width - LEFT - RIGHT) / 46)))
    curve.depths.forEach((name, i) => {
      const outside = i === 0 || i === n() + 1
      if (!outside && (i - 1) % every && i !== n()) return
      const text = outside ? curve.outside_names[i ? 1 : 0] : String(i)
      nodes.push(draw("text", {x: x_of(i - 1), y: end + 15, "text-anchor": "middle", class: outside ? "small" : "", text}))
    })
    nodes.push(draw("text", {x: (x_of(0) + x_of(n() - 1)) / 2, y: end + 30, "text-anchor": "middle", class: "axis", text: "block, from input to output"}),
      draw("text", {x: LEFT + 2, y: top + 1, class: "axis", text: "factor of the edit"}),
      draw("text", {x: LEFT + 2, y: second - 8, class: "axis", text: "‖τ‖ / ‖θ₀‖ by depth: before (thin) and after (thick)"}))
    for (const place of [-1, n()]) {
      const x = x_of(place) - SLOT / 2
      nodes.push(draw("rect", {x, y: top, width: SLOT, height: bottom - top, class: "slot"}),
        draw("rect", {x, y: second, width: SLOT, height: end - second, class: "slot"}))
    }
    grid.replaceChildren(...nodes)
  }

  function line_of(now) {
    const blocks = now.slice(1, -1)
    const points = curve.kind === "piecewise"
      ? [[0, blocks[0]], ...curve.handles.map(({place}, i) => [place, values[i]]), [n() - 1, blocks.at(-1)]]
      : blocks.map((value, i) => [i, value])
    return path(points.map(([place, value]) => [x_of(place), y_of(value)]))
  }

  function repaint() {
    frame = 0
    if (!width || curve.basis[0].length !== values.length) return
    if (!held && !painting) { fit(); frame_of_axes() }
    const now = factors(), parts = []
    parts.push(draw("path", {d: line_of(now), class: "line"}))
    now.forEach((value, i) => {
      const x = x_of(i - 1), y = y_of(value), outside = i === 0 || i === n() + 1
      parts.push(outside ? draw("rect", {x: x - 5, y: y - 5, width: 10, height: 10, class: "mark outside", "data-factor": value})
        : draw("circle", {cx: x, cy: y, r: 3.5, class: "mark", "data-factor": value}))
      if (outside) parts.push(draw("text", {x, y: y - 9, "text-anchor": "middle", class: "small", text: written(value)}))
    })
    marks.replaceChildren(...parts)
    norms.replaceChildren(...curve.lines.flatMap((line) => [1, 0].map((thin) => draw("path", {
      d: path(line.norms.slice(1, -1).map((x, i) => [x_of(i), norm_y(x * (thin ? 1 : Math.abs(now[i + 1])))]))
        + [0, n() + 1].map((i) => { const x = x_of(i - 1), y = norm_y(line.norms[i] * (thin ? 1 : Math.abs(now[i]))); return path([[x - 9, y], [x + 9, y]]) }).join(""),
      class: thin ? "norm thin" : "norm thick", stroke: line.colour, "stroke-dasharray": line.dashed ? "6 4" : "none"}))))
    place_handles()
  }
  const soon = () => { if (!frame) frame = requestAnimationFrame(repaint) }

  function place_handles() {
    ;[...knobs.children].forEach((knob, i) => {
      const x = x_of(curve.handles[i].place), y = y_of(values[i])
      knob.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`)
      put(knob, {"aria-valuemin": lowest(), "aria-valuemax": highest(), "aria-valuenow": values[i], "aria-valuetext": `${curve.handles[i].name} ${written(values[i])}`})
      const label = knob.lastChild
      const above = y - plot().top > 20, left = x > width - 110
      label.textContent = curve.handles.length <= 3 ? `${greek(curve.handles[i].name)} ${written(values[i])}` : knob.matches(":focus, :hover") || held === knob ? written(values[i]) : ""
      put(label, {y: above ? -14 : 24, x: 0, "text-anchor": curve.handles.length > 3 ? "middle" : left ? "end" : x < LEFT + 110 ? "start" : "middle"})
    })
  }
  const greek = (name) => name.replace("alpha", "α").replace("beta", "β").replace(/ \+ /, "+").replace(/^depth.*/, "")

  function build_handles() {
    const focused = [...knobs.children].indexOf(knobs.getRootNode().activeElement)
    knobs.replaceChildren(...curve.handles.map(({name}, i) => {
      const knob = draw("g", {class: "handle", tabindex: 0, role: "slider", "aria-label": name, "aria-orientation": "vertical"},
        draw("circle", {r: 17, class: "reach"}), draw("circle", {r: 8, class: "knob"}), draw("text", {class: "value"}))
      knob.addEventListener("pointerdown", (event) => {
        event.preventDefault(); event.stopPropagation(); knob.focus()
        held = knob; knob.setPointerCapture(event.pointerId)
      })
      knob.addEventListener("pointermove", (event) => { if (held === knob) move(i, value_at(at(event)[1]), false) })
      const drop = () => { if (held === knob) { held = null; send(true); soon() } }
      knob.addEventListener("pointerup", drop); knob.addEventListener("pointercancel", drop)
      knob.addEventListener("keydown", (event) => key(event, i))
      for (const name of ["focus", "blur", "pointerenter", "pointerleave"]) knob.addEventListener(name, soon)
      return knob
    }))
    if (focused >= 0) (knobs.children[focused] ?? knobs.lastChild)?.focus()
  }

  function key(event, i) {
    const step = event.shiftKey ? 0.1 : 0.01
    const to = {ArrowUp: values[i] + step, ArrowRight: values[i] + step, ArrowDown: values[i] - step, ArrowLeft: values[i] - step,
      PageUp: values[i] + 0.1, PageDown: values[i] - 0.1, Home: 0, End: 1}[event.key]
    if (to !== undefined) { event.preventDefault(); event.stopPropagation(); move(i, to, true) }
    else if ((event.key === "Delete" || event.key === "Backspace") && curve.kind === "piecewise") {
      event.preventDefault(); event.stopPropagation(); model.send_msg({kind: "remove", index: i, view, seq: ++seq})
    }
  }

  // Moving

  const at = (event) => {
    const box = svg.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top]
  }
  function move(i, value, done) {
    values[i] = clamp(Math.round(100 * value) / 100, lowest(), highest())
    soon()
    if (done) send(true); else send_soon()
  }
  function send(done) {
    clearTimeout(timer); timer = 0; sent_at = performance.now()
    model.send_msg({kind: "values", values: [...values], done, view, seq: ++seq})
  }
  function send_soon() {
    const wait = SEND_EVERY - (performance.now() - sent_at)
    if (wait <= 0) send(false)
    else if (!timer) timer = setTimeout(() => send(false), wait)
  }

  // Drawn by layer: the pointer paints over the plot.
  function paint(event) {
    const [x, y] = at(event)
    const distance = curve.handles.map(({place}) => Math.abs(x_of(place) - x))
    move(distance.indexOf(Math.min(...distance)), clamp(value_at(y), ...span), false)
  }
  svg.addEventListener("pointerdown", (event) => {
    const y = at(event)[1]
    if (curve.kind !== "per_layer" || y > plot().bottom + 6) return
    painting = true; svg.setPointerCapture(event.pointerId); paint(event)
  })
  const stop_painting = () => { if (painting) { painting = false; send(true); soon() } }
  svg.addEventListener("pointerup", stop_painting); svg.addEventListener("pointercancel", stop_painting)
  svg.addEventListener("dblclick", (event) => {
    const [x, y] = at(event)
    if (curve.kind !== "piecewise" || y > plot().bottom) return
    model.send_msg({kind: "add", depth: depth_at(x), value: clamp(Math.round(100 * value_at(y)) / 100, lowest(), highest()), view, seq: ++seq})
  })

  // Exact values under the pointer
  svg.addEventListener("pointermove", (event) => {
    if (painting) { paint(event); return }
    const [x] = at(event)
    const distance = curve.depths.map((_, i) => Math.abs(x_of(i - 1) - x))
    const i = distance.indexOf(Math.min(...distance))
    if (distance[i] > 40 || held) { leave(); return }
    const now = factors()[i], {top, end} = plot()
    put(hover, {x1: x_of(i - 1), x2: x_of(i - 1), y1: top, y2: end, visibility: "visible"})
    const name = i === 0 ? "before the blocks" : i === n() + 1 ? "after the blocks" : curve.depths[i]
    tip.replaceChildren(element("div", "head", `${name}: × ${now.toFixed(3)}`), ...curve.lines.map((line) =>
      element("div", "", `${line.title} ${(100 * line.norms[i]).toFixed(2)} % → ${(100 * line.norms[i] * Math.abs(now)).toFixed(2)} %`)))
    tip.hidden = false
    const left = x_of(i - 1) > width / 2
    tip.style.left = left ? "" : `${x_of(i - 1) + 14}px`
    tip.style.right = left ? `${width - x_of(i - 1) + 14}px` : ""
  })
  const leave = () => { tip.hidden = true; hover.setAttribute("visibility", "hidden") }
  svg.addEventListener("pointerleave", leave)

  // What Python says

  function update() {
    if ((model.heard[view] ?? 0) < seq || held || painting) return   // an older echo
    const other = model.curve.kind !== curve.kind || model.curve.handles.length !== knobs.children.length
      || model.curve.handles.some(({name, place}, i) => name !== curve.handles[i]?.name || place !== curve.handles[i]?.place)
    curve = model.curve; values = curve.handles.map(({value}) => value)
    svg.classList.toggle("drawn", curve.kind === "per_layer")
    if (other) build_handles()
    legend.replaceChildren(...curve.lines.map((line) => {
      const item = element("span", "item"), swatch = element("span", "swatch")
      swatch.style.borderTop = `3px ${line.dashed ? "dashed" : "solid"} ${line.colour}`
      item.append(swatch, document.createTextNode(line.title))
      return item
    }))
    soon()
  }
  new ResizeObserver(([entry]) => {
    width = entry.contentRect.width; height = entry.contentRect.height
    put(svg, {width, height, viewBox: `0 0 ${width} ${height}`})
    soon()
  }).observe(stage)
  model.on(["curve", "heard"], update)
  update()
  return root
}
