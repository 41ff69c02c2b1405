export { createApi } from './api.js';
export type { ApiOptions } from './api_options.js';
export { type ChatMessage, ChatTemplate } from './chat_template.js';
export { type Completion, type CompletionRequest, Engine, type EngineOptions, type Finish } from './engine.js';
