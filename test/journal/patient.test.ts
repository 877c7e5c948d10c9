import { describe, expect, jest, test } from '@jest/globals';
import { beingPatient } from '../../agent/journal/patient.ts';
import type { EventLine, Journal } from '../../agent/journal/journal.ts';

const LINES: EventLine[] = [{ position: 'g:0', json: '{}' }];

/** A journal that can't be written so often, and what was said of it. */
function failing(times: number) {
  const said: string[] = [];
  const append = jest.fn<Journal['append']>();
  append.mockImplementation(() =>
    append.mock.calls.length <= times ? Promise.reject(new Error('no space left')) : Promise.resolve(),
  );
  const patient = beingPatient(
    { append },
    {
      failed: (error) => said.push(error instanceof Error ? error.message : String(error)),
      recovered: () => said.push('recovered'),
    },
  );
  return { append, patient, said };
}

describe('a batch', () => {
  test('is tried again until it is written; failure and recovery are said once', async () => {
    const { append, patient, said } = failing(2);
    await patient.append(LINES);
    expect(append).toHaveBeenCalledTimes(3);
    expect(append).toHaveBeenLastCalledWith(LINES);
    expect(said).toEqual(['no space left', 'recovered']);
  });

  test('of nothing is not written', async () => {
    const { append, patient } = failing(0);
    await patient.append([]);
    expect(append).not.toHaveBeenCalled();
  });

  test('is given up when it fails after the deadline, and so is all that comes behind it', async () => {
    const { append, patient, said } = failing(Infinity);
    const first = patient.append(LINES).catch((error: unknown) => error);
    patient.giveUpAt(performance.now());
    const error = await first;
    expect(patient.isGivenUp(error)).toBe(true);
    const tried = append.mock.calls.length;
    await expect(patient.append(LINES)).rejects.toBe(error);
    expect(append).toHaveBeenCalledTimes(tried);
    expect(said).toEqual(['no space left']);
  });

  test('that succeeds after the deadline is written', async () => {
    const { append, patient } = failing(0);
    patient.giveUpAt(performance.now());
    await patient.append(LINES);
    expect(append).toHaveBeenCalledTimes(1);
  });
});
