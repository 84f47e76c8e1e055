// Stands before the modules that use it (see `components.script`), since they import nothing.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value     // never HTML: text may come from files
    else node.setAttribute(key, value)
  }
  node.append(...children)
  return node
}

// Typing in a lens must not reach JupyterLab, whose shortcuts in a cell are single letters and Enter
// (a "d" typed twice deletes the cell). Lab leaves alone what carries this attribute; it looks at
// the outermost shadow host, since events from inside are reported as coming from there.
function keepKeys(node) {
  let host = null
  for (; node; node = node.parentNode ?? node.host) if (node.host) host = node.host
  host?.setAttribute("data-lm-suppress-shortcuts", "true")
}

// Is this node inside that element, through shadow roots?
function within(node, element) {
  while (node) {
    if (node === element) return true
    node = node.parentNode ?? node.host
  }
  return false
}

// When a column changes its size, Bokeh (3.9) measures the figures in it, also one that was put there
// a moment ago and is not drawn yet; it fails on the layout which that does not have ("top_panel"),
// and what else is in the column keeps its old place. Drawing measures everything again, so that an
// undrawn figure can be left out.
function leaveOutUndrawnFigures() {
  const figures = window.Bokeh?.Models?.Figure?.prototype.default_view?.prototype
  if (!figures || Object.hasOwn(figures, "leavesOutUndrawn")) return
  figures.leavesOutUndrawn = true
  for (const name of ["_measure_layout", "_after_layout"]) {
    const measure = figures[name]
    figures[name] = function () { if (this.layout) measure.call(this) }
  }
}
leaveOutUndrawnFigures()
