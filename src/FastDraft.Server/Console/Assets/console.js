// What has to happen before the first paint or without asking the server: the theme and the clipboard.
(() => {
  const root = document.documentElement, dark = matchMedia('(prefers-color-scheme: dark)');
  const chosen = () => { try { return localStorage.getItem('theme'); } catch { return null; } };
  const apply = () => { root.dataset.theme = chosen() ?? (dark.matches ? 'dark' : 'light'); };
  apply();
  dark.addEventListener('change', apply);
  addEventListener('storage', apply);

  document.addEventListener('click', async e => {
    const theme = e.target.closest('[data-theme-switch]'), copy = e.target.closest('[data-copy]');
    if (theme) {
      const next = root.dataset.theme === 'dark' ? 'light' : 'dark';
      try {
        // What the system says anyway is not remembered, so that the page follows it again.
        if (next === (dark.matches ? 'dark' : 'light')) localStorage.removeItem('theme'); else localStorage.setItem('theme', next);
      } catch { /* A browser that keeps nothing still switches this page. */ }
      root.dataset.theme = next;
    } else if (copy) {
      await navigator.clipboard.writeText(copy.dataset.copy);
      copy.textContent = 'Copied';
      setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
    }
  });

  // Keyboard: "/" goes to a page's search field, g and a letter to a page.
  let g = 0;
  const places = { r: '/runs', c: '/runs/compare', m: '/models', l: '/lineage', s: '/schedules', a: '/approvals', u: '/audit' };
  document.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, [contenteditable], [role=dialog]')) return;
    const search = document.querySelector('[data-search]');
    if (e.key === '/' && search) { e.preventDefault(); search.focus(); }
    else if (e.key === 'g') g = Date.now();
    else if (Date.now() - g < 1000 && places[e.key]) { g = 0; document.querySelector(`nav a[href="${places[e.key]}"]`)?.click(); }
  });
})();
