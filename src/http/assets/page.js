// Sorting and filtering of what is on the page. Everything else works without it.
'use strict';

function sort(table, column, button) {
  const body = table.tBodies[0];
  const rises = button.getAttribute('data-order') !== 'rising';
  const text = (row) => row.cells[column].textContent;
  const rows = Array.from(body.rows).sort((a, b) => {
    const [x, y] = [text(a), text(b)];
    const order = x.localeCompare(y, undefined, { numeric: true });
    return rises ? order : -order;
  });
  for (const other of table.querySelectorAll('th')) other.removeAttribute('aria-sort');
  for (const other of table.querySelectorAll('th button')) other.removeAttribute('data-order');
  button.setAttribute('data-order', rises ? 'rising' : 'falling');
  button.parentElement.setAttribute('aria-sort', rises ? 'ascending' : 'descending');
  body.append(...rows);
}

for (const table of document.querySelectorAll('table.sorts')) {
  Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    button.addEventListener('click', () => sort(table, column, button));
  });
}

for (const label of document.querySelectorAll('label.js')) label.hidden = false;

for (const input of document.querySelectorAll('input[data-filters]')) {
  input.addEventListener('input', () => {
    const wanted = input.value.toLowerCase();
    for (const row of document.getElementById(input.dataset.filters).tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
