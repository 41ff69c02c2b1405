/** The package that calls the system's libraries: loaded only where something is called, and by threads from where it lies. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** The module's file, which a thread's text can require. @throws where it is not installed */
export const koffiPath = (): string => require.resolve('koffi');

/** @throws where it is not installed, or not for this system */
export const loadKoffi = (): typeof import('koffi') => require('koffi');
