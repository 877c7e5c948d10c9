import { render } from 'preact';
import { firstPaths } from './answers.ts';
import { App } from './app.tsx';
import { askAhead } from './server.ts';
// eslint-disable-next-line import/no-unassigned-import
import './style.css';
import { applyTheme } from './theme.ts';
import { applyZone } from './zone.ts';

const params = new URLSearchParams(location.search);
askAhead('/api/session');
if (!params.has('page')) for (const path of firstPaths(params)) askAhead(path);
applyTheme();
applyZone();
const root = document.querySelector('#app');
if (root !== null) render(<App />, root);
