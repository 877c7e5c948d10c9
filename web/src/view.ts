/** What somebody does on the Alerts page: which alert is looked at, which are chosen, and what is made of them. */
import { useEffect, useState } from 'preact/hooks';
import type { Session, State } from '../../agent/ui/api.ts';
import { useAnswers, type Answers, type Grouping } from './answers.ts';
import type { Keys } from './keys.ts';
import { STATE_NAMES } from './parts.tsx';
import { AnswerError, send } from './server.ts';
import type { Location } from './url.ts';

const NOTE_MILLIS = 6000;

export interface View {
  readonly place: Location;
  readonly session: Session;
  readonly grouping: Grouping;
  readonly answers: Answers;
  /** The alert that is shown beside the list. */
  readonly opened: string | undefined;
  /** The alert that keys are for. */
  readonly cursor: string | undefined;
  readonly chosen: ReadonlySet<string>;
  /** What became of the last change. */
  readonly note: string | undefined;
  /** @param id undefined: closes the one that is opened. */
  open: (id: string | undefined) => void;
  point: (id: string) => void;
  /** Chooses it, or no longer. */
  choose: (id: string) => void;
  chooseNone: () => void;
  mark: (ids: readonly string[], state: State) => void;
}

export function useView(place: Location, session: Session, signedOut: () => void): View {
  const grouping = groupingOf(place.params);
  const answers = useAnswers(place.params, grouping, signedOut);
  const [cursor, setCursor] = useState<string>();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [note, setNote] = useNote();
  const chooseNone = (): void => setChosen(new Set());
  useEffect(chooseNone, [answers.query, grouping]);
  return {
    place,
    session,
    grouping,
    answers,
    opened: place.params.get('alert') ?? undefined,
    cursor,
    chosen,
    note,
    open(id) {
      if (id !== undefined) setCursor(id);
      place.change((edited) => {
        if (id === undefined) edited.delete('alert');
        else edited.set('alert', id);
      });
    },
    point: setCursor,
    choose: (id) => setChosen(flipped(chosen, id)),
    chooseNone,
    mark(ids, state) {
      if (ids.length === 0) return;
      send('POST', '/api/marks', { ids, state }).then(
        () => {
          answers.list.mark(ids, state);
          chooseNone();
          setNote(`${ids.length === 1 ? 'Alert' : `${ids.length} alerts`}: ${STATE_NAMES[state].toLowerCase()}`);
          answers.summary.reload();
        },
        (error: unknown) => setNote(error instanceof AnswerError ? error.message : String(error)),
      );
    },
  };
}

function groupingOf(params: URLSearchParams): Grouping {
  const group = params.get('group');
  return group === 'signature' || group === 'pod' ? group : 'none';
}

/** A text that goes by itself. */
function useNote(): [string | undefined, (note: string) => void] {
  const [note, setNote] = useState<string>();
  useEffect(() => {
    if (note === undefined) return undefined;
    const timer = setTimeout(() => setNote(undefined), NOTE_MILLIS);
    return () => clearTimeout(timer);
  }, [note]);
  return [note, setNote];
}

function flipped(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}

/** @param closeDrawer undefined: it is not open. */
export function keysOf(
  view: View,
  search: { current: HTMLInputElement | null },
  closeDrawer: (() => void) | undefined,
): Keys {
  const { cursor, opened, chosen } = view;
  return {
    move: (by) => moveBy(view, by),
    open() {
      if (cursor !== undefined) view.open(cursor);
    },
    close() {
      if (closeDrawer !== undefined) closeDrawer();
      else if (opened !== undefined) view.open(undefined);
      else view.chooseNone();
    },
    search() {
      search.current?.focus();
      search.current?.select();
    },
    choose() {
      if (cursor !== undefined) view.choose(cursor);
    },
    mark(state) {
      view.mark(chosen.size > 0 ? [...chosen] : cursor === undefined ? [] : [cursor], state);
    },
  };
}

function moveBy({ place, answers, opened, cursor, point }: View, by: number): void {
  const { rows } = answers.list;
  const index = rows.findIndex(({ id }) => id === (cursor ?? opened));
  const next = rows[Math.min(rows.length - 1, Math.max(0, index + by))];
  if (next === undefined) return;
  point(next.id);
  if (opened !== undefined) place.change((edited) => edited.set('alert', next.id), true);
  document.querySelector(`[data-id="${CSS.escape(next.id)}"]`)?.scrollIntoView({ block: 'nearest' });
}
