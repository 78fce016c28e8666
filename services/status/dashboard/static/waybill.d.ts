// The types of waybill.js.

export type State = "pending" | "processing" | "completed" | "failed" | "cancelled";

export interface Status {
  file_id: string;
  status: State;
  phase: string;
  progress: { done: number; total: number; percent: number } | null;
  run: number;
  attempt: number;
  max_attempts: number | null;
  error: { code: string; message: string; retryable: boolean } | null;
  next_attempt_at: string | null;
  result: {
    prefix: string;
    artifacts: { name: string; content_type: string; size: number }[];
    statistics: Record<string, number | string | boolean | null>;
  } | null;
  created_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  updated_at: string | null;
  deleted_at: string | null;
  tenant: string | null;
  owner: string | null;
  name: string | null;
  size: number | null;
  content_type: string | null;
  sha256: string | null;
  labels: Record<string, string>;
  batch_id: string | null;
  /** Only where one file is asked for. */
  history?: HistoryLine[];
  /** Of two states of a file the one with the greater position is the later one. */
  position: number[];
}

export interface HistoryLine {
  id: string;
  type: string;
  time: string;
  run: number;
  attempt: number | null;
  pod: string | null;
  code: string | null;
  message: string | null;
  next_attempt_at: string | null;
  offset: number | null;
  /** Seconds that the attempt may take, where it begins. */
  time_limit: number | null;
  /** Whether the run had ended before: a lost attempt told it, and it changed nothing. */
  superseded: boolean;
}

export interface ShareList {
  file_id: string;
  items: { subject: string }[];
}

export interface Filters {
  ids?: string[];
  owner?: string;
  batch_id?: string;
  label?: string;
  status?: State;
}

export type Connection = "connecting" | "live" | "lost";

export interface WatchOptions {
  /** Where to go on from: the `cursor` of an earlier watch. */
  cursor?: string | null;
  /**
   * Told of the connection. With "live" comes whether it is `fresh`: then what is known from before
   * may have gaps, and the present states follow, all of them if `complete`.
   */
  onConnection?: (state: Connection, about?: { fresh: boolean; complete: boolean }) => void;
  /** Told of each file that is no longer shared with who watches. */
  onWithdrawn?: (id: string) => void;
}

export interface ClientOptions {
  /** Where the status service is; empty for the page's own origin. */
  url?: string;
  /** Where the upload service is, if it is elsewhere. */
  uploadUrl?: string;
  /** What proves who asks, or how to get it. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** Sees every answer. */
  onAnswer?: (response: Response) => void;
}

type Params = Record<string, string | number | boolean | string[] | null | undefined>;

/** A service refused, or gave no answer: then `status` is 0. */
export class Refusal extends Error {
  constructor(message: string, about?: { status?: number; code?: string; retryAfter?: number });
  readonly status: number;
  readonly code: string;
  /** Seconds. */
  readonly retryAfter: number;
  /** Whether the same may go well later. */
  readonly mayMend: boolean;
}

export function refusalOf(text: string, status: number, retryAfter?: number): Refusal;

export const TERMINAL: ReadonlySet<string>;

/** Every method rejects with a Refusal. */
export class Client {
  constructor(options?: ClientOptions);
  upload(
    body: Blob,
    about?: {
      name?: string;
      type?: string;
      labels?: Record<string, string>;
      /** Whether an earlier file with the same content will do; by default as the service has it. */
      deduplicate?: boolean;
      /** Whether a file without content is accepted. */
      allowEmpty?: boolean;
      signal?: AbortSignal;
    },
  ): Promise<
    Pick<Status, "file_id" | "name" | "size" | "content_type"> &
      /** A file that was there already has a status that only `status` tells. */
      ({ status: "pending" } | { deduplicated: true })
  >;
  /** `wait`: seconds to wait for the next change. */
  status(id: string, options?: { wait?: number; signal?: AbortSignal }): Promise<Status>;
  wait(id: string, options?: { signal?: AbortSignal }): Promise<Status>;
  files(params?: Params): Promise<{ items: Status[]; next_cursor: string | null }>;
  events(id: string): Promise<{ items: HistoryLine[]; complete: boolean }>;
  cancel(id: string, options?: { reason?: string }): Promise<Status>;
  retry(id: string, options?: { force?: boolean; reason?: string }): Promise<Status>;
  /** Who reads a file, beside its owner. */
  shares(id: string): Promise<string[]>;
  share(id: string, subject: string, options?: { reason?: string }): Promise<ShareList>;
  unshare(id: string, subject: string, options?: { reason?: string }): Promise<ShareList>;
  delete(id: string, options?: { reason?: string }): Promise<Status>;
  /** `?ticket=…` opens one stream in place of a token, within half a minute. */
  ticket(): Promise<string>;
  watch(filters?: Filters, options?: WatchOptions): Watch;
  ask(method: string, path: string, params?: Params, options?: RequestInit): Promise<any>;
}

/** The states of files, without end; iterated over once more, it goes on where it was closed. */
export class Watch implements AsyncIterable<Status> {
  private constructor();
  cursor: string | null;
  close(): void;
  [Symbol.asyncIterator](): AsyncIterator<Status>;
}
