// Undo, redo, copy, save and load. Everything that needs the browser: clipboard, files, keys.
// Sends {kind: "undo" | "redo" | "save", what?} and {kind: "load", name, text};
// receives {kind: "file", name, mime, data (base64)}.

const ICONS = {
  undo: "M12.5 8c-2.65 0-5.05 1-6.9 2.6L2 7v9h9l-3.62-3.62A8 8 0 0 1 20.09 16l2.37-.78A10.5 10.5 0 0 0 12.5 8z",
  redo: "M18.4 10.6A10.4 10.4 0 0 0 11.5 8a10.5 10.5 0 0 0-9.96 7.22L3.9 16a8 8 0 0 1 12.7-3.62L13 16h9V7z",
  copy: "M16 1H4a2 2 0 0 0-2 2v14h2V3h12zm3 4H8a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h11a2 2 0 0 0 2-2V7a2 2 0 0 0-2-2zm0 16H8V7h11z",
  link: "M3.9 12a3.1 3.1 0 0 1 3.1-3.1h4V7H7a5 5 0 0 0 0 10h4v-1.9H7A3.1 3.1 0 0 1 3.9 12zM8 13h8v-2H8zm9-6h-4v1.9h4a3.1 3.1 0 0 1 0 6.2h-4V17h4a5 5 0 0 0 0-10z",
  save: "M5 20h14v-2H5zM19 9h-4V3H9v6H5l7 7z",
  load: "M5 20h14v-2H5zm0-10h4v6h6v-6h4l-7-7z",
}
const LARGEST_FILE = 1e6
// Milliseconds of rest before the address changes: it costs some 15, and a drag changes it often.
const ADDRESS_AFTER = 250

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  svg.setAttribute("viewBox", "0 0 24 24"); svg.setAttribute("aria-hidden", "true")
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  path.setAttribute("d", ICONS[name]); svg.append(path)
  return svg
}

function button(name, label, title, text) {
  const node = document.createElement("button")
  node.type = "button"; node.title = title; node.setAttribute("aria-label", label)
  node.append(icon(name))
  if (text) node.append(document.createTextNode(text))
  return node
}

async function to_clipboard(text) {
  try { await navigator.clipboard.writeText(text); return true }
  catch {                          // no clipboard without https, and in some notebook frames
    const area = document.createElement("textarea")
    area.value = text; area.style.position = "fixed"; area.style.opacity = "0"
    document.body.append(area); area.select()
    const done = document.execCommand("copy")
    area.remove()
    return done
  }
}

function offer_file({name, mime, data}) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0))
  const url = URL.createObjectURL(new Blob([bytes], {type: mime}))
  const anchor = document.createElement("a")
  anchor.href = url; anchor.download = name
  document.body.append(anchor); anchor.click(); anchor.remove()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

export function render({model}) {
  const root = document.createElement("div")
  root.className = "toolbar"; root.setAttribute("role", "toolbar"); root.setAttribute("aria-label", "recipe")

  const undo = button("undo", "undo", "undo (Ctrl+Z)")
  const redo = button("redo", "redo", "redo (Ctrl+Shift+Z)")
  const python = button("copy", "copy as Python", "copy this recipe as Python", "Python")
  const link = button("link", "copy as link", "copy a link that restores everything on screen", "Link")
  const save = button("save", "save", "save the figure, the numbers or the recipe", "Save")
  const load = button("load", "load recipe", "load a recipe from a JSON file", "Load")
  const said = document.createElement("span")
  said.className = "said"; said.setAttribute("role", "status")
  const menu = document.createElement("div")
  menu.className = "menu"; menu.hidden = true; menu.setAttribute("role", "menu")
  save.setAttribute("aria-haspopup", "menu"); save.setAttribute("aria-expanded", "false")
  const file = document.createElement("input")
  file.type = "file"; file.accept = ".json,application/json"; file.hidden = true
  file.setAttribute("aria-label", "recipe file")

  let silence = 0
  const say = (text) => {
    said.textContent = text
    clearTimeout(silence); silence = setTimeout(() => { said.textContent = "" }, 3500)
  }
  const open_menu = (open) => {
    menu.hidden = !open; save.setAttribute("aria-expanded", String(open))
    if (open) menu.querySelector("button").focus()
  }
  const items = () => menu.replaceChildren(...model.saves.map(([what, text]) => {
    const item = document.createElement("button")
    item.type = "button"; item.setAttribute("role", "menuitem"); item.textContent = text
    item.addEventListener("click", () => {
      open_menu(false); save.focus(); say("preparing the file…"); model.send_msg({kind: "save", what})
    })
    return item
  }))
  items(); model.on("saves", items)
  menu.addEventListener("keydown", (event) => {
    const items = [...menu.children], at = items.indexOf(root.getRootNode().activeElement)
    if (event.key === "Escape") { open_menu(false); save.focus() }
    else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus()
    else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus()
    else return
    event.preventDefault()
  })
  root.addEventListener("focusout", (event) => { if (!root.contains(event.relatedTarget)) open_menu(false) })

  undo.addEventListener("click", () => model.send_msg({kind: "undo"}))
  redo.addEventListener("click", () => model.send_msg({kind: "redo"}))
  python.addEventListener("click", async () =>
    say(await to_clipboard(model.python) ? "Python copied" : "the browser refused the clipboard"))
  link.addEventListener("click", async () => {
    const here = model.served ? `${location.origin}${location.pathname}` : model.link_base
    say(await to_clipboard(`${here}?${model.query}`) ? "link copied" : "the browser refused the clipboard")
  })
  save.addEventListener("click", () => open_menu(menu.hidden))
  load.addEventListener("click", () => file.click())
  file.addEventListener("change", async () => {
    const chosen = file.files[0]
    if (!chosen) return
    const text = chosen.size > LARGEST_FILE ? null : await chosen.text()
    model.send_msg({kind: "load", name: chosen.name, text})
    file.value = ""
  })

  const keys = (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "z") return
    const path = event.composedPath(), target = path[0]
    if (target.matches?.("textarea, input[type=text], [contenteditable=true], .cm-content")) return
    const lens = path.find((node) => node.classList?.contains("explorer-lens"))
    // On a page of its own the toolbar is beside what the keys were pressed in, not around it.
    if (!model.served && !(lens && within(root, lens))) return
    if (!root.getClientRects().length) return      // the app shows another lens
    event.preventDefault(); event.stopPropagation()
    model.send_msg({kind: event.shiftKey ? "redo" : "undo"})
  }
  document.addEventListener("keydown", keys, true)

  let waiting = 0
  const update = () => {
    undo.disabled = !model.can_undo; redo.disabled = !model.can_redo
    clearTimeout(waiting)
    waiting = setTimeout(readdress, ADDRESS_AFTER)
  }
  const readdress = () => {
    if (model.served && model.query) history.replaceState(history.state, "", `${location.pathname}?${model.query}`)
  }
  model.on(["can_undo", "can_redo", "query", "served"], update)
  model.on("msg:custom", (event) => {
    const message = event.kind ? event : event.data
    if (message.kind === "file") { offer_file(message); say(`saved ${message.name}`) }
    else if (message.kind === "said") say(message.text)
  })
  model.on("remove", () => { clearTimeout(waiting); document.removeEventListener("keydown", keys, true) })
  load.hidden = !model.loads
  root.append(undo, redo, python, link, save, load, file, menu, said)
  update()
  root.addEventListener("focusin", () => keepKeys(root))
  model.on("after_render", () => keepKeys(root))
  return root
}
