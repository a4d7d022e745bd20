// RTC Battery's SQL layer alone: no network, no storage, for pages, workers and Node.

export { RTCBatteryError, type RTCBatteryErrorCode, SqlError } from './errors';
export type { HLC, Operation } from './operation';
export { SQLLayer, type SQLLayerOptions } from './sql-layer';
export type { QueryResult, SqlInput, SqlParams, SqlValue } from './values';
