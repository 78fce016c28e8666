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
  /** Only in responses about one file. */
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
  /** Seconds that the attempt may take, on the line of its beginning. */
  time_limit: number | null;
  /** True if the run had already ended: the event of a lost attempt, without effect. */
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
  /** Where to resume: the `cursor` of an earlier watch. */
  cursor?: string | null;
  /**
   * Called when the connection changes. "live" comes with `fresh`: if true, earlier states may have
   * gaps and the current states follow, all of them if `complete`.
   */
  onConnection?: (state: Connection, about?: { fresh: boolean; complete: boolean }) => void;
  /** Called with the id of each file that is no longer shared with the user. */
  onWithdrawn?: (id: string) => void;
}

export interface ClientOptions {
  /** Address of the status service; empty for the page's own origin. */
  url?: string;
  /** Address of the upload service, if it differs. */
  uploadUrl?: string;
  /** The bearer token or API key, or a function that returns it. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** Called with every response. */
  onAnswer?: (response: Response) => void;
}

type Params = Record<string, string | number | boolean | string[] | null | undefined>;

/** An error response. `status` is 0 if there was no response. */
export class Refusal extends Error {
  constructor(message: string, about?: { status?: number; code?: string; retryAfter?: number });
  readonly status: number;
  readonly code: string;
  /** Seconds to wait before a retry; 0 if not given. */
  readonly retryAfter: number;
  /** True if a retry may succeed. */
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
      /** Reuse an earlier file with the same content; defaults to the service's setting. */
      deduplicate?: boolean;
      /** Accept an empty file. */
      allowEmpty?: boolean;
      signal?: AbortSignal;
    },
  ): Promise<
    Pick<Status, "file_id" | "name" | "size" | "content_type"> &
      /** For a file that already existed, call `status` to get its state. */
      ({ status: "pending" } | { deduplicated: true })
  >;
  /** `wait`: seconds to wait for the next change (long polling). */
  status(id: string, options?: { wait?: number; signal?: AbortSignal }): Promise<Status>;
  wait(id: string, options?: { signal?: AbortSignal }): Promise<Status>;
  files(params?: Params): Promise<{ items: Status[]; next_cursor: string | null }>;
  events(id: string): Promise<{ items: HistoryLine[]; complete: boolean }>;
  cancel(id: string, options?: { reason?: string }): Promise<Status>;
  retry(id: string, options?: { force?: boolean; reason?: string }): Promise<Status>;
  /** The readers of a file beside its owner. */
  shares(id: string): Promise<string[]>;
  share(id: string, subject: string, options?: { reason?: string }): Promise<ShareList>;
  unshare(id: string, subject: string, options?: { reason?: string }): Promise<ShareList>;
  delete(id: string, options?: { reason?: string }): Promise<Status>;
  /** `?ticket=…` opens one stream without a token, within 30 seconds. */
  ticket(): Promise<string>;
  watch(filters?: Filters, options?: WatchOptions): Watch;
  ask(method: string, path: string, params?: Params, options?: RequestInit): Promise<any>;
}

/** An endless stream of file states. Iterating again resumes where it was closed. */
export class Watch implements AsyncIterable<Status> {
  private constructor();
  cursor: string | null;
  close(): void;
  [Symbol.asyncIterator](): AsyncIterator<Status>;
}
