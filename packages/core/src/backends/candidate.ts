/** What `selectBackend` asks of a backend: whether it can run here, and to make itself tfjs's active backend. */
export interface BackendCandidate {
  readonly name: string;
  /**
   * Whether the backend can run here. Cheap, and without lasting side effects except a kernel cache on disk.
   * @throws UserError where a setting of the backend has a value it cannot have: no other backend is taken for that
   */
  probe(): Promise<Available | Unavailable>;
  /** Makes the backend tfjs's active one; called only after `probe` found it available. */
  activate(): Promise<void>;
}

export interface Available {
  available: true;
  /** One line for people, such as "native: OpenBLAS 0.3.21, AVX-512, 2 threads". */
  description: string;
  /**
   * What the bits of results depend on, as one short string: libraries and their versions, kernels and their compiler,
   * the processor. Default: the description.
   */
  arithmetic?: string;
  /** Bytes of a device's own memory. */
  deviceMemory?: number;
}

export interface Unavailable {
  available: false;
  /** Why not, and what would change it, as one clause. */
  why: string;
}
