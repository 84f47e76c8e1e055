// Help and keys as a dialog, and a tour on a first visit. Texts come from explorer/app/help.py and are
// written as text, never as HTML.

const SEEN = "explorer-tour"          // in the browser's own storage, so that a tour comes once
const ANSWER_WITHIN = 6000            // milliseconds in which a kernel that is not busy answers
const NO_ANSWER = "Python has not answered for a while. If the kernel was restarted, run this cell again, " +
  "after the cells above it; if it is busy with another cell, wait."
const TYPING = "textarea, input:not([type=range]):not([type=checkbox]), select, [contenteditable=true], .cm-content"

export function render({model}) {
  const root = element("div", {class: "guide"})
  const name = element("span", {class: "name", text: model.title})
  const help = element("button", {type: "button", text: "Help", title: "what this lens measures, and its paper"})
  const keys = element("button", {type: "button", text: "Keys", title: "keyboard shortcuts (?)"})
  const dialog = element("dialog", {"aria-labelledby": "guide-title"})
  root.append(name, help, keys, dialog)

  const open = (title, ...contents) => {
    paint(root)
    const close = element("button", {type: "button", class: "close", text: "Close"})
    close.addEventListener("click", () => dialog.close())
    dialog.replaceChildren(close, element("h2", {id: "guide-title", text: title}), ...contents)
    if (!dialog.open) dialog.showModal()
  }
  const show_help = () => open(
    model.title,
    ...model.sentences.map((text) => element("p", {text})),
    element("h3", {text: model.papers.length > 1 ? "Papers" : "Paper"}),
    element("ul", {}, ...model.papers.map(({text, link}) => element("li", {},
      element("a", {href: link, target: "_blank", rel: "noopener noreferrer", text})))))
  const show_keys = () => open("Keyboard", element("dl", {}, ...model.keys.flatMap(
    ([pressed, what]) => [element("dt", {text: pressed}), element("dd", {text: what})])))
  help.addEventListener("click", show_help)
  keys.addEventListener("click", show_keys)
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close() })

  const pressed = (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey) return
    const path = event.composedPath()
    if (path[0].matches?.(TYPING) || !root.getClientRects().length) return
    const lens = path.find((node) => node.classList?.contains("explorer-lens"))
    if (!model.served && !(lens && within(root, lens))) return
    event.preventDefault(); event.stopPropagation()
    dialog.open ? dialog.close() : show_keys()
  }
  document.addEventListener("keydown", pressed, true)
  if (!model.served) watchKernel(root, model)
  let end = () => {}
  model.on("after_render", () => { keepKeys(root); if (model.served) nameHandle(); end = tour(root, model.tour) })
  model.on("remove", () => { document.removeEventListener("keydown", pressed, true); end() })
  return root
}

// After what a person does in the lens, ask Python for a sign of life. No event says in every kind of
// notebook that a kernel was restarted; that nothing comes back does.
function watchKernel(root, model) {
  const deaf = element("div", {class: "deaf", role: "alert"})
  root.append(deaf)
  let number = 0, waiting = 0
  const ask = (event) => {
    const lens = event.composedPath().find((node) => node.classList?.contains("explorer-lens"))
    if (waiting || !lens || !within(root, lens)) return
    number += 1
    model.send_msg({kind: "there?", number})
    waiting = setTimeout(() => { waiting = 0; deaf.textContent = NO_ANSWER }, ANSWER_WITHIN)
  }
  for (const kind of ["pointerup", "keyup"]) document.addEventListener(kind, ask, true)
  model.on("answered", () => { clearTimeout(waiting); waiting = 0; deaf.textContent = "" })
  model.on("remove", () => {
    clearTimeout(waiting)
    for (const kind of ["pointerup", "keyup"]) document.removeEventListener(kind, ask, true)
  })
}

// The colours of what lies over the page: those of the page at this moment, light or dark.
function paint(root) {
  let node = root, paper = "rgba(0, 0, 0, 0)"
  while (node && /^rgba\(.*, 0\)$|^transparent$/.test(paper)) {
    if (node instanceof Element) paper = getComputedStyle(node).backgroundColor
    node = node.parentNode ?? node.host
  }
  const ink = getComputedStyle(root).color
  const none = /^rgba\(.*, 0\)$|^transparent$/.test(paper)
  root.style.setProperty("--paper", none ? "Canvas" : paper)
  root.style.setProperty("--ink", none ? "CanvasText" : ink)
}

// Steps in a corner, each with a ring around what it speaks of. It takes no focus and blocks nothing.
// Returns what ends it early.
function tour(root, steps) {
  if (!steps.length || window.explorerTour || !root.getClientRects().length || seen()) return () => {}
  window.explorerTour = true
  let at = 0, looking = 0
  // As popovers they lie above everything, whatever moves or cuts the sidebar that they belong to.
  const card = element("section", {class: "step", role: "region", "aria-label": "a short tour", popover: "manual"})
  const ring = element("div", {class: "ring", "aria-hidden": "true", popover: "manual"})
  const end = () => {
    clearInterval(looking); card.remove(); ring.remove(); document.removeEventListener("keydown", escape, true)
    window.explorerTour = false
  }
  const done = () => {
    try { localStorage.setItem(SEEN, "seen") } catch { /* a browser without storage shows it again */ }
    end()
  }
  const escape = (event) => { if (event.key === "Escape" && !root.querySelector("dialog").open) done() }
  const follow = () => {
    const box = firstSeen(document, steps[at].at)?.getBoundingClientRect()
    ring.style.visibility = box ? "visible" : "hidden"
    if (box) Object.assign(ring.style, {
      left: `${box.x - 5}px`, top: `${box.y - 5}px`, width: `${box.width + 4}px`, height: `${box.height + 4}px`})
  }
  const show = (moved = false) => {
    const last = at === steps.length - 1
    const skip = element("button", {type: "button", text: "Skip the tour"})
    const back = element("button", {type: "button", text: "Back"})
    const next = element("button", {type: "button", text: last ? "Done" : "Next"})
    skip.addEventListener("click", done); skip.hidden = last
    back.addEventListener("click", () => { at -= 1; show(true) }); back.hidden = at === 0
    next.addEventListener("click", () => { if (last) done(); else { at += 1; show(true) } })
    const where = element("span", {class: "where", text: `${at + 1} of ${steps.length}`})
    card.replaceChildren(element("h2", {text: steps[at].title}), element("p", {text: steps[at].text}),
      element("div", {class: "buttons"}, where, skip, back, next))
    paint(root); follow()
    if (moved) next.focus()
  }
  document.addEventListener("keydown", escape, true)
  root.append(card, ring)
  show()
  ring.showPopover(); card.showPopover()
  looking = setInterval(follow, 300)     // what it points at may come later, or move
  return end
}

function seen() {
  try { return localStorage.getItem(SEEN) !== null } catch { return true }
}

// The first element on screen that a selector finds, through shadow roots.
function firstSeen(root, selector) {
  for (const node of root.querySelectorAll("*")) {
    if (node.matches(selector) && node.getClientRects().length) return node
    const found = node.shadowRoot && firstSeen(node.shadowRoot, selector)
    if (found) return found
  }
  return null
}

// Material's handle of the sidebar has a name and no role, so that nobody is told the name.
function nameHandle() {
  firstSeen(document, "[aria-label='Resize sidebar']")?.setAttribute("role", "separator")
}
