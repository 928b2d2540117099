// Package alerts tells people and programs that are away what went wrong, and that it is over: by webhook, SNS, web push and
// heartbeat pings.
//
// It listens to the bus (jobs/events), turns events into alerts that last as long as their cause, and keeps each message until
// its receiver has taken it. It never holds up a job: whatever goes wrong here is recorded here. What happened is said by the
// events; how it looks on a page, by infra/admin.
package alerts
