/** What somebody does on the Alerts page: which alert is looked at, which are chosen, and what is made of them. */
import { useEffect, useState } from 'preact/hooks';
import type { Session, State } from '../../agent/ui/api.ts';
import { groupingOf, useAnswers, type Answers, type Grouping } from './answers.ts';
import type { Keys } from './keys.ts';
import { useMarking, type Marking } from './marking.ts';
import { showsState } from './rows.ts';
import type { Location } from './url.ts';

export interface View {
  readonly place: Location;
  readonly session: Session;
  readonly grouping: Grouping;
  readonly answers: Answers;
  /** The alert that is shown beside the list. */
  readonly opened: string | undefined;
  /** The alert that keys are for. */
  readonly cursor: string | undefined;
  /** `all`: whatever matches, loaded or not. */
  readonly chosen: ReadonlySet<string> | 'all';
  readonly marking: Marking;
  /** @param id undefined: closes the one that is opened. */
  open: (id: string | undefined) => void;
  point: (id: string) => void;
  /** Chooses it, or no longer. @param range All from the one that was chosen last, too. */
  choose: (id: string, range?: boolean) => void;
  /** Chooses two neighbours, with others. */
  chooseBoth: (one: string, other: string) => void;
  chooseAll: () => void;
  chooseNone: () => void;
  mark: (ids: readonly string[], state: State) => void;
  markChosen: (state: State) => void;
}

export function useView(place: Location, session: Session, signedOut: () => void): View {
  const grouping = groupingOf(place.params);
  const answers = useAnswers(place.params, grouping, signedOut);
  const marking = useMarking(answers, session);
  const [cursor, setCursor] = useState<string>();
  const [chosen, setChosen] = useState<View['chosen']>(new Set());
  /** Where a range begins. */
  const [anchor, setAnchor] = useState<string>();
  const chooseNone = (): void => setChosen(new Set());
  useEffect(chooseNone, [answers.query, grouping]);
  const opened = place.params.get('alert') ?? undefined;
  const ids = answers.list.rows.map((row) => row.id);

  const mark = (wanted: readonly string[], state: State): void => {
    if (wanted.length === 0) return;
    // When it leaves the list, keys are for the next one.
    const behind = ids.slice(ids.findIndex((id) => wanted.includes(id))).find((id) => !wanted.includes(id));
    if (cursor !== undefined && wanted.includes(cursor) && leaves(place.params, state)) setCursor(behind);
    marking.mark({ ids: wanted }, state);
    chooseNone();
  };
  return {
    place,
    session,
    grouping,
    answers,
    opened,
    cursor,
    chosen,
    marking,
    open(id) {
      if (id !== undefined) setCursor(id);
      place.change((edited) => {
        if (id === undefined) edited.delete('alert');
        else edited.set('alert', id);
      });
      // It may have left the list.
      if (id === undefined) focusRow(opened !== undefined && ids.includes(opened) ? opened : cursor);
    },
    point: setCursor,
    choose(id, range = false) {
      const before = chosen === 'all' ? new Set<string>() : chosen;
      setChosen(
        range && anchor !== undefined ? new Set([...before, ...between(ids, anchor, id)]) : flipped(before, id),
      );
      if (!range || anchor === undefined) setAnchor(id);
    },
    chooseBoth: (one, other) => setChosen(new Set([...(chosen === 'all' ? [] : chosen), one, other])),
    chooseAll: () => setChosen('all'),
    chooseNone,
    mark,
    markChosen(state) {
      if (chosen !== 'all') return mark([...chosen], state);
      // The newest is the first one that is shown, but by severity.
      const newest = answers.order === 'time' ? answers.list.rows[0]?.timestamp : undefined;
      const until = newest ?? new Date().toISOString();
      marking.mark({ query: answers.query, until }, state);
      return chooseNone();
    },
  };
}

/** Whether alerts of this state leave the list. */
function leaves(params: URLSearchParams, state: State): boolean {
  return !showsState(params.getAll('state'), state);
}

function flipped(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}

/** Both ends, too. */
function between(ids: readonly string[], one: string, other: string): readonly string[] {
  const [a, b] = [ids.indexOf(one), ids.indexOf(other)];
  return a === -1 || b === -1 ? [other] : ids.slice(Math.min(a, b), Math.max(a, b) + 1);
}

/** @param closeDrawer undefined: it is not open. */
export function keysOf(
  view: View,
  search: { current: HTMLInputElement | null },
  closeDrawer: (() => void) | undefined,
): Keys {
  const { cursor, opened, chosen } = view;
  return {
    move: (by, extend) => moveBy(view, by, extend),
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
    chooseAll: () => view.chooseAll(),
    alike() {
      const row = view.answers.list.rows.find(({ id }) => id === (opened ?? cursor));
      if (row !== undefined) view.place.change((params) => params.set('signature', `${row.gid}:${row.sid}`));
    },
    mark(state) {
      // What is looked at is what is meant.
      if (opened !== undefined) view.mark([opened], state);
      else if (chosen === 'all' || chosen.size > 0) view.markChosen(state);
      else if (cursor !== undefined) view.mark([cursor], state);
    },
    undo: () => view.marking.undo(),
  };
}

function moveBy(view: View, by: 1 | -1, extend: boolean): void {
  const { place, answers, opened, cursor, point } = view;
  const ids = answers.list.rows.map(({ id }) => id);
  const at = cursor ?? opened;
  const index = at === undefined ? -1 : ids.indexOf(at);
  // The one that is open has left the list: the cursor is where it was.
  const left = opened !== undefined && opened !== cursor && !ids.includes(opened);
  const next = ids[Math.min(ids.length - 1, Math.max(0, left && by === 1 ? index : index + by))];
  if (next === undefined) return;
  if (extend) view.chooseBoth(at ?? next, next);
  point(next);
  if (opened === undefined) focusRow(next);
  else {
    place.change((edited) => edited.set('alert', next), true);
    rowOf(next)?.scrollIntoView({ block: 'nearest' });
  }
}

function focusRow(id: string | undefined): void {
  // It may be drawn a moment later.
  requestAnimationFrame(() => rowOf(id)?.querySelector('a')?.focus());
}

function rowOf(id: string | undefined): Element | null {
  return id === undefined ? null : document.querySelector(`[data-id="${CSS.escape(id)}"]`);
}
