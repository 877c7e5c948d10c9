/** A value of an alert that the list can be narrowed by. */
import type { ComponentChildren, JSX } from 'preact';
import { useRef } from 'preact/hooks';
import { CopyButton, Icon } from './parts.tsx';
import { showBelow } from './popover.ts';
import { Text } from './text.tsx';
import { narrow, type Location } from './url.ts';

interface Props {
  place: Location;
  /** Of the query language. */
  field: string;
  value: string;
  /** What is shown, where it is not the value. */
  children?: ComponentChildren;
}

export function Value({ place, field, value, children }: Props): JSX.Element {
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const narrowBy = (not: boolean): void => {
    menu.current?.hidePopover();
    place.change((params) => narrow(params, field, value, not));
  };
  return (
    <span class="value">
      {children ?? <Text>{value}</Text>}
      <button
        ref={button}
        class="value-button"
        type="button"
        aria-haspopup="true"
        aria-label={`Filter by ${field}, or copy it`}
        title="Only this, not this, copy"
        onClick={() => showBelow(menu.current, button.current)}
      >
        <Icon name="more" />
      </button>
      <div ref={menu} class="value-menu" popover="auto" role="group" aria-label={field}>
        <p class="faint">
          {field}: <Text>{value}</Text>
        </p>
        <button type="button" class="small" onClick={() => narrowBy(false)}>
          Only this
        </button>
        <button type="button" class="small" onClick={() => narrowBy(true)}>
          Not this
        </button>
        <CopyButton text={() => value}>Copy</CopyButton>
      </div>
    </span>
  );
}
