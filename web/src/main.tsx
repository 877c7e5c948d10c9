import { render } from 'preact';
import { App } from './app.tsx';
// eslint-disable-next-line import/no-unassigned-import
import './style.css';
import { applyTheme } from './theme.ts';
import { applyZone } from './zone.ts';

applyTheme();
applyZone();
const root = document.querySelector('#app');
if (root !== null) render(<App />, root);
