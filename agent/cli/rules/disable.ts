/** `dpi-agent rules disable`. */
import { changeCommand } from './change.ts';

export const command = changeCommand('disable');
