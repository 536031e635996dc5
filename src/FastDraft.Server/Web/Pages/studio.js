// Chooses the designer's element by the page's path, and does for it what a router would. Everything stands in one function: the
// designer's own scripts declare short global names.
(() => {
  const api = location.origin + "/elsa/api";
  const path = location.pathname.replace(/\/+$/, "");
  const part = i => decodeURIComponent(path.split("/")[i] ?? "");
  const isDefinition = /^\/studio\/workflows\/definitions\/[^/]+\/edit$/.test(path);
  const isInstance = /^\/studio\/workflows\/instances\/[^/]+\/view$/.test(path);
  const open = {
    definition: id => location.assign(`/studio/workflows/definitions/${encodeURIComponent(id)}/edit`),
    instance: id => location.assign(`/studio/workflows/instances/${encodeURIComponent(id)}/view`),
  };

  const [name, attributes, callbacks] =
    isDefinition ? ["elsa-workflow-definition-editor", { "definition-id": part(4) }, {}]
    : isInstance ? ["elsa-workflow-instance-viewer", { "instance-id": part(4) }, { editWorkflowDefinition: open.definition }]
    : path === "/studio/workflows/instances" ? ["elsa-workflow-instance-list", {}, { viewWorkflowInstance: open.instance }]
    : ["elsa-workflow-definition-list", {}, { editWorkflowDefinition: open.definition }];

  // The elements navigate by history.pushState, and nothing here listens to it: a new path is a new page.
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const target = new URL(url ?? location.href, document.baseURI);
    if (target.pathname.replace(/\/+$/, "") === path) {
      push(state, title, url);
    } else {
      location.assign(target);
    }
  };

  // The designer starts a workflow without inputs and has nowhere to write them, so they are asked for here. It shows the errors of a
  // save by itself and keeps quiet about all others.
  const send = window.fetch.bind(window);
  window.fetch = async (input, init) => {
    const url = new URL(typeof input === "string" ? input : input.url ?? String(input), document.baseURI);
    const started = url.origin === location.origin && url.pathname.match(/^\/elsa\/api\/workflow-definitions\/([^/]+)\/execute$/);
    if (started) {
      const given = await askForInputs(started[1]);
      if (!given) {
        return new Response(null, { status: 499, headers: { "x-elsa-workflow-cannot-start": "True" } });
      }
      init = { ...init, body: JSON.stringify({ ...await new Response(init.body).json(), input: given }) };
    }
    const response = await send(input, init);
    if (!response.ok && url.href.startsWith(api) && url.pathname !== "/elsa/api/workflow-definitions"
      && (response.headers.get("content-type") ?? "").startsWith("application/problem+json")) {
      report(await response.clone().json());
    }
    return response;
  };

  function report(problem) {
    const box = document.querySelector(".problems");
    const lines = problem.errors?.GeneralErrors ?? [problem.title];
    box.replaceChildren(...lines.map(line => Object.assign(document.createElement("p"), { textContent: line })));
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
    close.addEventListener("click", () => box.replaceChildren());
    box.append(close);
  }

  const numbers = ["Int16", "Int32", "Int64", "Long", "Single", "Double", "Decimal"];

  // What a person wants the inputs to be; null where they change their mind. An empty field leaves the default.
  async function askForInputs(definition) {
    const workflow = await send(`${api}/workflow-definitions/by-definition-id/${definition}?versionOptions=Latest`).then(r => r.ok ? r.json() : {});
    if (!workflow.inputs?.length) {
      return {};
    }
    const remembered = "inputs of " + definition;
    const before = JSON.parse(sessionStorage.getItem(remembered) ?? "{}");
    const fields = workflow.inputs.map(input => ({ input, field: fieldFor(input, workflow.customProperties?.inputDefaults?.[input.name], before[input.name]) }));
    const dialog = document.querySelector(".inputs");
    dialog.querySelector("h2").textContent = "Run " + workflow.name;
    dialog.querySelector(".fields").replaceChildren(...fields.map(({ input, field }) => {
      const label = document.createElement("label");
      label.append(Object.assign(document.createElement("span"), { textContent: input.displayName || input.name }), field, Object.assign(document.createElement("small"), { textContent: input.description ?? "" }));
      return label;
    }));
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise(closed => dialog.addEventListener("close", closed, { once: true }));
    if (dialog.returnValue !== "run") {
      return null;
    }
    const given = {};
    for (const { input, field } of fields) {
      if (field.type === "checkbox") {
        given[input.name] = field.checked;
      } else if (field.value.trim() !== "") {
        given[input.name] = numbers.includes(input.type) ? field.valueAsNumber : input.type === "String" ? field.value : asJson(field.value);
      }
    }
    sessionStorage.setItem(remembered, JSON.stringify(given));
    return given;
  }

  function fieldFor(input, fallback, before) {
    const type = input.type === "Boolean" ? "checkbox" : numbers.includes(input.type) ? "number" : "text";
    const shown = value => value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
    return Object.assign(document.createElement("input"), type === "checkbox"
      ? { name: input.name, type, checked: Boolean(before ?? fallback) }
      : { name: input.name, type, step: "any", value: shown(before), placeholder: shown(fallback), spellcheck: false });
  }

  function asJson(text) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  async function showRun() {
    const id = part(4);
    const bar = document.querySelector(".run");
    const [state, cancel, retry] = [bar.querySelector(".run-state"), bar.querySelector(".cancel"), bar.querySelector(".retry")];
    const post = address => send(api + address, { method: "POST" }).then(async r => r.ok ? r.json().catch(() => ({})) : Promise.reject(await r.json()));
    cancel.addEventListener("click", () => post(`/cancel/workflow-instances/${id}`).then(refresh, report));
    retry.addEventListener("click", () => post(`/workflow-instances/${id}/retry`).then(r => open.instance(r.workflowInstanceId), report));
    async function refresh() {
      const now = await send(`${api}/workflow-instances/${id}/progress`).then(r => r.ok ? r.json() : null).catch(() => null);
      if (now) {
        bar.hidden = false;
        bar.dataset.state = now.state;
        state.textContent = now.text;
        cancel.hidden = !now.canCancel;
        retry.hidden = !now.canRetry;
      }
      if (!now || !now.hasEnded) {
        setTimeout(refresh, 2000);
      }
    }
    await refresh();
  }

  addEventListener("DOMContentLoaded", async () => {
    for (const link of document.querySelectorAll(".bar nav a")) {
      const here = link.getAttribute("href");
      if (here === "/studio" ? !path.startsWith("/studio/workflows/instances") : path.startsWith(here)) {
        link.setAttribute("aria-current", "page");
      }
    }
    const element = document.createElement(name);
    for (const [key, value] of Object.entries({ ...attributes, "remote-endpoint": api })) {
      element.setAttribute(key, value);
    }
    document.getElementById("studio").replaceChildren(element);
    if (isInstance) {
      showRun();
    }
    await customElements.whenDefined(name);
    Object.assign(element, callbacks);
  });
})();
