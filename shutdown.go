package kaizen

import (
	"context"
	"errors"
	"fmt"
)

// Flush waits until what was recorded so far is acknowledged: spans, metrics,
// logs and entries by the server, entries of a local ledger by the disk. A model
// call that failed and waits for its client library to try again ends here. The
// error says what is not by the deadline of ctx; it is kept and will be sent.
func (o *Observer) Flush(ctx context.Context) error {
	var errs []error
	o.folds.flush(false) // calls that wait for another attempt end with their last
	if o.tail != nil {   // decides what it still holds
		errs = append(errs, o.tail.ForceFlush(ctx))
	}
	if o.audit != nil {
		errs = append(errs, o.audit.flush(ctx))
	}
	if o.exporter != nil {
		errs = append(errs, o.exporter.Flush(ctx))
	}
	return errors.Join(errs...)
}

// Shutdown stops the observer against the flow of what it records: logs, the
// queue of audit entries, spans and, after a last push, metrics are sent (what a
// server that is away cannot take goes to the spool at once), and the ledger is
// closed last. Every step is tried,
// even after one fails or time runs out. Without a deadline in ctx it takes ten
// seconds at most. Further calls return what the first one did.
func (o *Observer) Shutdown(ctx context.Context) error {
	o.shutdown.Do(func() {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, shutdownGrace)
			defer cancel()
		}
		o.folds.flush(true)
		var errs []error
		step := func(name string, err error) {
			if err != nil {
				errs = append(errs, fmt.Errorf("kaizen: shut down %s: %w", name, err))
			}
		}
		if o.logs != nil {
			step("logs", o.logs.Close(ctx))
		}
		if o.audit != nil {
			step("audit", o.audit.close(ctx))
		}
		if o.provider != nil { // which shuts down the exporter's way out for spans
			step("tracing", o.provider.Shutdown(ctx))
		}
		if o.exporter != nil {
			step("export", o.exporter.Shutdown(ctx))
		}
		for _, p := range o.programs {
			step("programs", p.Close())
		}
		if o.ledger != nil {
			step("ledger", o.ledger.Close())
		}
		o.downErr = errors.Join(errs...)
	})
	return o.downErr
}
