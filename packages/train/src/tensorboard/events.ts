// TensorBoard's events as protocol buffers: as much of tensorflow/core/util/event.proto and framework/summary.proto as a
// run's numbers and texts need, with the field numbers from there.
import protobuf from 'protobufjs';

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Event {
    double wall_time = 1;
    int64 step = 2;
    oneof what {
      string file_version = 3;
      Summary summary = 5;
      SessionLog session_log = 7;
    }
  }
  message SessionLog {
    enum SessionStatus { STATUS_UNSPECIFIED = 0; START = 1; }
    SessionStatus status = 1;
  }
  message Summary {
    repeated Value value = 1;
    message Value {
      string tag = 1;
      float simple_value = 2;
      TensorProto tensor = 8;
      SummaryMetadata metadata = 9;
    }
  }
  message SummaryMetadata {
    PluginData plugin_data = 1;
    message PluginData { string plugin_name = 1; }
  }
  message TensorProto {
    DataType dtype = 1;
    TensorShapeProto tensor_shape = 2;
    repeated bytes string_val = 8;
    enum DataType { DT_INVALID = 0; DT_STRING = 7; }
  }
  message TensorShapeProto {}
`);
const type = root.lookupType('Event');

/** A number under a tag, or a text. */
export interface SummaryValue {
  tag: string;
  simpleValue?: number;
  text?: string;
}

/** What one record of an event file says. */
export interface TensorBoardEvent {
  /** seconds since 1970 */
  wallTime: number;
  step: number;
  /** The first record of a file has it. */
  fileVersion?: string;
  /** A run begins, or goes on: what the files say of this step and later ones does not count. */
  start?: boolean;
  values?: readonly SummaryValue[];
}

export function encodeEvent({ wallTime, step, fileVersion, start, values }: TensorBoardEvent): Uint8Array {
  const what = fileVersion !== undefined ? { fileVersion } : start ? { sessionLog: { status: 1 } } : undefined;
  return type.encode({ wallTime, step, ...(what ?? { summary: { value: (values ?? []).map(messageOf) } }) }).finish();
}

/** As `tf.summary.text` writes one: a tensor of strings without dimensions. */
function messageOf({ tag, simpleValue, text }: SummaryValue): Record<string, unknown> {
  if (text === undefined) return { tag, simpleValue };
  const tensor = { dtype: 7, tensorShape: {}, stringVal: [Buffer.from(text)] };
  return { tag, tensor, metadata: { pluginData: { pluginName: 'text' } } };
}
