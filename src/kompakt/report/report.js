(() => {
  'use strict';
  const KEY = 'kompakt-report-theme';
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');

  // Storage may be forbidden, as in a sandboxed frame: the choice then lasts as long as the page.
  const read = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = theme => { try { localStorage.setItem(KEY, theme); } catch { /* nothing is lost but the memory */ } };
  const apply = theme => { if (theme === 'dark' || theme === 'light') root.dataset.theme = theme; };
  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';

  // The button says what a press gives; what is pressed would be said twice, and once wrongly.
  function themes() {
    const button = document.getElementById('theme');
    const show = () => { button.textContent = isDark() ? 'Light theme' : 'Dark theme'; };
    button.hidden = false;
    button.addEventListener('click', () => {
      const theme = isDark() ? 'light' : 'dark';
      apply(theme);
      keep(theme);
      show();
    });
    system.addEventListener('change', show);
    show();
  }

  const ORDERS = {none: 'ascending', ascending: 'descending', descending: 'none'};

  // What is missing is last whichever way the others go; equals stay as they were.
  function compare(a, b, numeric, sign) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, 'en', {numeric: true}));
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells].filter(each => !('fixed' in each.dataset));
    heads.forEach(head => {
      const button = document.createElement('button');
      button.type = 'button';
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute('aria-sort', 'none');
      button.addEventListener('click', () => {
        const order = ORDERS[head.getAttribute('aria-sort')];
        heads.forEach(each => each.setAttribute('aria-sort', 'none'));
        head.setAttribute('aria-sort', order);
        const value = row => row.cells[head.cellIndex].dataset.v;
        const sign = order === 'descending' ? -1 : 1;
        const numeric = head.classList.contains('n');
        const rows = [...original];
        if (order !== 'none') rows.sort((a, b) => compare(value(a), value(b), numeric, sign));
        body.append(...rows);
        const how = order === 'none' ? 'in the order of the run' : `sorted by ${head.textContent}, ${order}`;
        document.getElementById('said').textContent = `${table.caption.textContent}: ${how}`;
      });
    });
  }

  function printing() {
    let opened = [];
    addEventListener('beforeprint', () => {
      opened = [...document.querySelectorAll('details:not([open])')];
      opened.forEach(each => { each.open = true; });
    });
    addEventListener('afterprint', () => opened.forEach(each => { each.open = false; }));
  }

  apply(read());
  document.addEventListener('DOMContentLoaded', () => {
    themes();
    document.querySelectorAll('table[data-sortable]').forEach(sortable);
    printing();
  });
})();
