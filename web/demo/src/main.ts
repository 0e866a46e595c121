// The page: what is seen at once starts at once, each part below when it comes near the screen.
import './language.js';
import { announce } from './announce.js';
import { Attention } from './attention.js';
import { startBudget } from './budget.js';
import { Digits } from './digits.js';
import { find, setText } from './dom.js';
import { Duet } from './duet.js';
import { startLayer } from './layer.js';
import { startPublished } from './published.js';
import { startMachine } from './machine.js';
import { Many } from './many.js';
import { startServiceWorker } from './offline.js';
import { Own } from './own.js';
import { startPaper } from './paper.js';
import { plantColours } from './plot.js';
import { startTheme } from './theme.js';
import { Travel } from './travel.js';

plantColours();
const duet = new Duet();
startLayer();
startBudget();
startPublished();
const many = new Many();
const travel = new Travel();
const attention = new Attention();
travel.changed = () => attention.offer(travel.branches[0]?.text ?? '');
new Digits();
const own = new Own();
startPaper();
startMenu();
startCopy();
startTheme(() => {
  duet.meter.plot.restyle();
  attention.restyle();
  own.restyle();
});

/** The program goes to the clipboard; where that is not allowed, it is selected. */
function startCopy(): void {
  const button = find('#copy');
  button.addEventListener('click', () => {
    const program = find('#program');
    navigator.clipboard.writeText(program.textContent ?? '').then(() => {
      setText(button, 'Copied');
      announce('Copied');
    }, () => getSelection()?.selectAllChildren(program));
  });
}

/** Choosing a section closes the list of them that phones open. */
function startMenu(): void {
  const menu = find('#sections');
  menu.addEventListener('click', ({ target }) => {
    if (target instanceof HTMLAnchorElement && menu.matches(':popover-open')) menu.hidePopover();
  });
}

/** Once, when it is about to be seen. */
function whenNear(selector: string, start: () => void): void {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
    observer.disconnect();
    start();
  }, { rootMargin: '400px' });
  observer.observe(find(selector));
}

// For the curious, and for the tests: what the numbers on the page are made from.
Object.assign(globalThis, { onekvDemo: { duet, many, travel, attention, own } });

whenNear('#machine', () => void startMachine());
startServiceWorker();
