/** Marks alerts, says what became of it, and takes it back. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Act, MarkAnswer, Reason, Session, State } from '../../agent/ui/api.ts';
import type { Answers } from './answers.ts';
import { REASON_NAMES, STATE_NAMES } from './parts.tsx';
import { AnswerError, send } from './server.ts';
import { grouped } from './text.tsx';

const NOTE_MILLIS = 10_000;
/** For who is asked why. */
const WHY_MILLIS = 30_000;

/** Some alerts, or all that a query selects until a time: what came later was seen by nobody. */
export type Which = { ids: readonly string[] } | { query: string; until: string };

export interface Note {
  text: string;
  /** Whether what it tells can be undone. */
  undo: boolean;
  /** Whether it can be said why. */
  why?: true;
}

/** What is done with alerts, beside when and by whom. */
export type Doing = Omit<Act, 'at' | 'by'>;

export interface Marking {
  /** What became of the last change. */
  readonly note: Note | undefined;
  mark: (which: Which, state: State) => void;
  /** Says something of alerts, or whose they are. @returns whether it is stored. */
  say: (ids: readonly string[], doing: Doing) => Promise<boolean>;
  /** Why those that were dismissed last were. */
  explain: (reason: Reason) => void;
  /** Takes the last change back. */
  undo: () => void;
}

export function useMarking(answers: Answers, { user }: Session): Marking {
  const [note, setNote] = useState<Note>();
  const last = useRef<MarkAnswer['before']>([]);
  useEffect(() => {
    if (note === undefined) return undefined;
    const timer = setTimeout(() => setNote(undefined), note.why ? WHY_MILLIS : NOTE_MILLIS);
    return () => clearTimeout(timer);
  }, [note]);

  const store = async (which: Which, doing: Doing): Promise<MarkAnswer> => {
    const answer = await send<MarkAnswer>('POST', '/api/marks', { ...which, ...doing });
    const ids = answer.before.flatMap((before) => before.ids);
    answers.mark(ids, { ...doing, by: user, at: new Date().toISOString() });
    return answer;
  };
  const failed = (error: unknown): void =>
    setNote({ text: error instanceof AnswerError ? error.message : String(error), undo: false });

  return {
    note,
    mark(which, state) {
      store(which, { state }).then(({ marked, more, before }) => {
        last.current = before;
        const what = marked === 1 ? 'Alert' : `${grouped(marked)} alerts`;
        const rest = more ? '. More match: do it again' : '';
        const text = `${what}: ${STATE_NAMES[state].toLowerCase()}${rest}`;
        setNote({ text, undo: marked > 0, ...(state === 'dismissed' && marked > 0 ? { why: true } : {}) });
      }, failed);
    },
    say: (ids, doing) =>
      store({ ids }, doing).then(
        () => true,
        (error: unknown) => {
          failed(error);
          return false;
        },
      ),
    explain(reason) {
      const ids = last.current.flatMap((before) => before.ids);
      store({ ids }, { state: 'dismissed', reason }).then(
        () => setNote({ text: `Dismissed: ${REASON_NAMES[reason].toLowerCase()}`, undo: true }),
        failed,
      );
    },
    undo() {
      const before = last.current;
      if (before.length === 0) return;
      last.current = [];
      Promise.all(before.map(({ ids, state }) => store({ ids }, { state }))).then(() => {
        const count = before.reduce((sum, { ids }) => sum + ids.length, 0);
        setNote({ text: `${count === 1 ? 'Alert' : `${grouped(count)} alerts`}: as before`, undo: false });
        // Those that had left the list come back.
        answers.reload();
      }, failed);
    },
  };
}
