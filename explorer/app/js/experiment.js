// What is noised, how, and how often. Sends {kind: "model" | "picture", name, side},
// {kind: "upload" | "reopen", name, data (base64) or size, side}, {kind: "compare", on},
// {kind: "count", what, value}, {kind: "choice", what, name}.

const COUNTS = [["samples", "variants"], ["steps", "steps"], ["data", "pictures"], ["seed", "seed"]]
const CHOICES = [["method", "sampler"], ["kind", "change in"], ["task", "classifier"]]
const SIDES = ["left", "right"]

export function render({model}) {
  let side = 0
  const send = (message) => model.send_msg(message)
  const labelled = (text, control) => element("label", {class: "field"}, element("span", {text}), control)
  const entered = (field, act) => {
    field.addEventListener("input", () => { field.dataset.typing = "1" })   // what Python says must not overwrite it
    for (const name of ["change", "blur"]) field.addEventListener(name, () => { delete field.dataset.typing })
    field.addEventListener("change", () => act(field.value))
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { field.blur(); field.focus() } })
    return field
  }
  const offer = (select, pairs) => {              // an open menu closes when its options are replaced
    const key = JSON.stringify(pairs)
    if (select.dataset.offered === key) return
    select.dataset.offered = key
    select.replaceChildren(...pairs.map(([name, title]) => new Option(title, name)))
  }
  const pressed = (text, title, act) => {
    const button = element("button", {type: "button", text, title})
    button.addEventListener("click", act)
    return button
  }

  // Which model and picture, of one side or of two

  const tabs = SIDES.map((text, i) => pressed(text, `the ${text} side`, () => { side = i; update() }))
  const compare = pressed("compare two", "a second model or picture beside the first", () => { send({kind: "compare", on: model.subjects.length < 2}); side = model.subjects.length < 2 ? 1 : 0 })
  const list = element("select", {"aria-label": "diffusion model"})
  list.addEventListener("change", () => { if (list.value === "…") { typed(true) } else send({kind: "model", name: list.value, side}) })
  const own = entered(element("input", {type: "text", "aria-label": "folder or hub id", placeholder: "folder or hub id", title: "a folder in diffusers' layout, or a name on the hub such as google/ddpm-cifar10-32; Enter opens it"}),
    (text) => { if (text.trim()) send({kind: "model", name: text.trim(), side}) })
  const typed = (on) => { own.hidden = !on; if (on) own.focus() }
  own.hidden = true

  const pictures = element("div", {class: "pictures", role: "group", "aria-label": "held-out pictures"})
  const none = element("div", {class: "hint"})
  const chosen = (kind, accept) => {
    const field = element("input", {type: "file", accept, hidden: "", "aria-label": kind === "upload" ? "picture file" : "run file"})
    field.addEventListener("change", () => { if (field.files[0]) hand_over(model, kind, field.files[0], side); field.value = "" })
    return field
  }
  const file = chosen("upload", "image/*"), run = chosen("reopen", ".nc,application/x-netcdf")
  const upload = pressed("upload…", "a picture of your own, at most 8 MB; or drop it on the pictures", () => file.click())
  const reopen = pressed("open run…", "a run that was saved as NetCDF; needs no model and no GPU", () => run.click())
  const drop = element("div", {class: "drop"}, pictures, none)
  take_drops(drop, model, () => side, (at) => drop.classList.toggle("over", at !== null))

  // The camera, where the browser gives it (pages from https or from this machine)

  const video = element("video", {playsinline: "", muted: "", hidden: "", "aria-label": "camera"})
  let stream = null
  const dark = () => { stream?.getTracks().forEach((track) => track.stop()); stream = null; video.hidden = true; camera.textContent = "camera" }
  const camera = pressed("camera", "take a picture with the camera", async () => {
    if (stream) {
      const canvas = element("canvas"), length = Math.min(video.videoWidth, video.videoHeight, 512)
      const cut = Math.min(video.videoWidth, video.videoHeight)
      canvas.width = canvas.height = length
      canvas.getContext("2d").drawImage(video, (video.videoWidth - cut) / 2, (video.videoHeight - cut) / 2, cut, cut, 0, 0, length, length)
      dark()
      send({kind: "upload", name: "camera.png", data: canvas.toDataURL("image/png").split(",")[1], side})
      return
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: true})
      video.srcObject = stream; video.hidden = false; camera.textContent = "snap"
      await video.play()
    } catch (error) { dark(); send({kind: "camera", name: error.name}) }
  })
  camera.hidden = !navigator.mediaDevices?.getUserMedia || !model.uploads
  upload.hidden = reopen.hidden = !model.uploads

  // How

  const counts = COUNTS.map(([what, title]) => {
    const field = entered(element("input", {type: "number", min: 0, step: 1, "aria-label": title}),
      (value) => send({kind: "count", what, value: value === "" ? null : Number(value)}))
    return [what, labelled(title, field), field]
  })
  const choices = CHOICES.map(([what, title]) => {
    const field = element("select", {"aria-label": title})
    field.addEventListener("change", () => send({kind: "choice", what, name: field.value}))
    return [what, labelled(title, field), field]
  })
  const approximate = element("div", {class: "hint approximate"})
  const root = element("div", {class: "experiment"},
    element("div", {class: "heading", text: "model and picture"}),
    element("div", {class: "sides"}, ...tabs, compare), labelled("diffusion model", list), own, drop, video,
    element("div", {class: "buttons"}, upload, camera, reopen), file, run,
    element("div", {class: "heading", text: "denoising"}), ...choices.map(([, row]) => row),
    element("div", {class: "fields"}, ...counts.map(([, row]) => row)), approximate)

  function update() {
    if (side >= model.subjects.length) side = 0
    const now = model.subjects[side] ?? {}, pair = model.subjects.length > 1
    tabs.forEach((button, i) => { button.hidden = !pair; button.setAttribute("aria-pressed", String(i === side)) })
    compare.textContent = pair ? "show one" : "compare two"
    const known = [...new Set([...model.models, ...(now.model ? [now.model] : [])])]
    offer(list, [...(now.run ? [["", "the reopened run"]] : []), ...known.map((name) => [name, name]), ["…", "folder or hub id…"]])
    list.value = now.run ? "" : now.model ?? ""
    typed_if_empty(known)
    picker(now)
    for (const [what, row, field] of choices) {
      const given = model.choices[what] ?? []
      row.hidden = !given.length
      offer(field, given)
      field.value = model.values[what]
    }
    for (const [what, , field] of counts) if (!field.dataset.typing) field.value = model.values[what] ?? ""
    approximate.textContent = model.approximate
  }
  function typed_if_empty(known) { if (!known.length) { own.hidden = false; list.value = "…" } }
  function picker(now) {
    const {sheet, columns, n} = model.examples[side] ?? {sheet: "", columns: 1, n: 0}, rows = Math.ceil(n / columns)
    if (pictures.dataset.sheet !== sheet) {
      pictures.dataset.sheet = sheet
      pictures.replaceChildren(...Array.from({length: n}, (_, i) => {
        const button = pressed("", `held-out picture ${i}`, () => send({kind: "picture", name: String(i), side}))
        button.setAttribute("aria-label", `held-out picture ${i}`)
        button.append(element("i", {style: `background-image:url(${sheet});background-size:${columns * 100}% ${rows * 100}%;background-position:${columns > 1 ? i % columns / (columns - 1) * 100 : 0}% ${rows > 1 ? Math.floor(i / columns) / (rows - 1) * 100 : 0}%`}))
        return button
      }))
    }
    ;[...pictures.children].forEach((button, i) => button.setAttribute("aria-pressed", String(now.picture === String(i) && !now.run)))
    none.textContent = now.run ? "a saved run has its own picture" : (now.picture ?? "").startsWith("upload-") ? "your own picture" : n ? "" : "no pictures of its own: upload one, or drop it here"
    none.hidden = !none.textContent
  }
  model.on(["models", "subjects", "examples", "choices", "values", "approximate", "heard"], update)
  model.on("remove", dark)
  update()
  return root
}
