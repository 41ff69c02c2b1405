/** What of this package runs anywhere, a browser included: tokenizers. */
export { openTokenizerText, type TextTokenizer } from './text_tokenizer.js';
