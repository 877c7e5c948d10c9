/** `dpi-agent rules enable`. */
import { changeCommand } from './change.ts';

export const command = changeCommand('enable');
