// RTC Battery: a SQL database in the browser that everyone who shares a link shares.

export { RTCBattery } from './battery';
export type { RTCBatteryConfig } from './config';
export { DatabaseBusy, RTCBatteryError, type RTCBatteryErrorCode, SqlError } from './errors';
export type { RTCBatteryEvents } from './events';
export type { HLC, Operation } from './operation';
export { SQLLayer, type SQLLayerOptions } from './sql-layer';
export { WebRTCManager, type WebRTCManagerOptions } from './webrtc-manager';
export type { QueryResult, SqlInput, SqlParams, SqlValue } from './values';
