import type { Decoder } from '../alert.ts';
import type { EngineName } from '../engine.ts';
import { createAlertJsonDecoder } from './alert-json.ts';
import { createEveDecoder } from './eve.ts';
import { createUnified2Decoder } from './unified2.ts';

/** The decoder for what an engine wrote. */
export function createDecoder(record: { engine: EngineName; output: 'json' | 'unified2' }): Decoder {
  if (record.engine === 'suricata') return createEveDecoder();
  return record.output === 'json' ? createAlertJsonDecoder() : createUnified2Decoder();
}
