// RTC Battery's SQL layer alone: no network, no storage, for pages, workers and Node.

export { RTCBatteryError, type RTCBatteryErrorCode, SqlError } from './errors.js';
export type { HLC, Operation } from './operation.js';
export { SQLLayer, type SQLLayerOptions } from './sql-layer.js';
export type { FileBytes, QueryResult, SqlInput, SqlParams, SqlValue } from './values.js';
