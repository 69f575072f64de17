package kaizen

import (
	"context"
	"errors"
	"fmt"
)

// Flush waits until what was recorded so far is acknowledged: spans, metrics,
// logs and entries by the server, entries of a local ledger by the disk. The
// error says what is not by the deadline of ctx; it is kept and will be sent.
func (o *Observer) Flush(ctx context.Context) error {
	var errs []error
	if o.audit != nil {
		errs = append(errs, o.audit.flush(ctx))
	}
	if o.exporter != nil {
		errs = append(errs, o.exporter.Flush(ctx))
	}
	return errors.Join(errs...)
}

// Shutdown stops the observer against the flow of what it records: metrics are
// pushed a last time, logs and exporters are flushed (what the server cannot
// take stays in the spool), and the ledger is closed last. Every step is tried,
// even after one fails or time runs out. Without a deadline in ctx it takes ten
// seconds at most. Further calls return what the first one did.
func (o *Observer) Shutdown(ctx context.Context) error {
	o.shutdown.Do(func() {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, shutdownGrace)
			defer cancel()
		}
		var errs []error
		step := func(name string, err error) {
			if err != nil {
				errs = append(errs, fmt.Errorf("kaizen: shut down %s: %w", name, err))
			}
		}
		if o.provider != nil {
			step("tracing", o.provider.ForceFlush(ctx))
		}
		if o.logs != nil {
			step("logs", o.logs.Close(ctx))
		}
		if o.audit != nil {
			step("audit", o.audit.close(ctx))
		}
		if o.stopPush != nil {
			step("metrics", o.stopPush(ctx))
		}
		if o.provider != nil {
			step("tracing", o.provider.Shutdown(ctx))
		}
		if o.exporter != nil {
			step("export", o.exporter.Shutdown(ctx))
		}
		if o.ledger != nil {
			step("ledger", o.ledger.Close())
		}
		o.downErr = errors.Join(errs...)
	})
	return o.downErr
}
