/** What the selection asks of a backend: whether it can serve here, and to make itself tfjs's active one. */
export interface BackendCandidate {
  readonly name: string;
  /** Cheap and without side effects that outlast it, except a kernel cache on disk. */
  probe(): Promise<Available | Unavailable>;
  activate(): Promise<void>;
}

export interface Available {
  available: true;
  /** One line for people, such as "native: OpenBLAS 0.3.21, AVX-512, 2 threads". */
  description: string;
}

export interface Unavailable {
  available: false;
  /** Why not, and what would change it, as one clause. */
  why: string;
}
