export { readPage } from './page_file.js';
