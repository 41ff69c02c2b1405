import { UserError } from '@stickbreaking/base';

/** A variable of the environment has a value that it cannot have: no other backend is taken for that. */
export class SettingError extends UserError {}
