import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { errorCode, messageOf } from '../../agent/files/errors.ts';

function thrown(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}

describe('errorCode', () => {
  test('is the code of the system’s and Node’s errors', () => {
    expect(errorCode(thrown(() => readFileSync('/no/such/file')))).toBe('ENOENT');
    expect(errorCode(thrown(() => Buffer.alloc(-1)))).toBe('ERR_OUT_OF_RANGE');
  });

  test.each([new Error('x'), Object.assign(new Error('x'), { code: 20 }), 'ENOENT', undefined, null, 1])(
    'is nothing of %p',
    (error) => {
      expect(errorCode(error)).toBeUndefined();
    },
  );
});

describe('messageOf', () => {
  test('is the message, also of another realm’s error and of a class of errors', () => {
    expect(messageOf(new RangeError('too far'))).toBe('too far');
    expect(messageOf(runInNewContext('new TypeError("elsewhere")'))).toBe('elsewhere');
    expect(messageOf(new (class extends Error {})('own'))).toBe('own');
  });

  test('is the text of anything else that was thrown', () => {
    expect(messageOf('a text')).toBe('a text');
    expect(messageOf(undefined)).toBe('undefined');
  });
});
