/** Errors as OpenAI's clients read them: a status, and one object that says what was wrong. */
import { oneLine, UserError } from '@stickbreaking/base';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { z } from 'zod';
import { BusyError } from './engine.js';

/** An answer that is an error. */
export class ApiError extends Error {
  constructor(
    readonly status: ContentfulStatusCode,
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

/** The model's own fault, or its weights': nothing that another request would mend. */
export const serverError = (error: unknown) => new ApiError(500, (error as Error).message, null, 'server_error');

/** The status and body for whatever went wrong. */
export function describeError(error: unknown): { status: ContentfulStatusCode; body: object } {
  const told = toApiError(error);
  const type = told.status >= 500 ? 'server_error' : told.status === 429 ? 'rate_limit_error' : 'invalid_request_error';
  return {
    status: told.status,
    body: { error: { message: oneLine(told.message), type, param: told.param, code: told.code } },
  };
}

function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof BusyError) return new ApiError(429, error.message, null, 'queue_full');
  if (error instanceof UserError) return new ApiError(400, error.message);
  if (error instanceof HTTPException) return new ApiError(error.status, error.message);
  return serverError(error);
}

/** @throws ApiError that names the first field which does not fit */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = innermost(parsed.error.issues[0]!);
  const field = issue.path.map(String).join('.');
  throw new ApiError(400, `${field || 'the body'}: ${issue.message}`, field || null);
}

/** Where a value fits none of several forms, what is wrong with it in the form that it comes nearest to. */
function innermost(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0 || issue.message !== NO_FORM) return issue;
  const found = issue.errors.flatMap(([first]) => (first ? [innermost(first)] : []));
  const nearest = found.reduce((best, one) => (one.path.length > best.path.length ? one : best));
  return { path: [...issue.path, ...nearest.path], message: nearest.message };
}

/** What zod says where no form says anything of its own. */
const NO_FORM = 'Invalid input';
