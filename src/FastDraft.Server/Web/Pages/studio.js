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

  // The designer shows the errors of a save by itself and keeps quiet about all others.
  const send = window.fetch.bind(window);
  window.fetch = async (input, init) => {
    const response = await send(input, init);
    const url = new URL(typeof input === "string" ? input : input.url ?? String(input), document.baseURI);
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
