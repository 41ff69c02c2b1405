/** Repositories of the Hugging Face Hub, by address, in the cache that `huggingface_hub` keeps too. */
export { type HubAddress, isHubAddress, parseHubAddress } from './address.js';
export { cachedSnapshot, isOffline, listedNames } from './cache.js';
export { type HubRepository, openHubRepository } from './repository.js';
