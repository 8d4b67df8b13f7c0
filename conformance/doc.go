// Package conformance checks that a [kv.Client] keeps the contract written at
// that interface, rule by rule. Whoever writes a driver or a wrapper runs it:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Driver(func(t conformance.T) conformance.Opener {
//			server := startEmptyServer(t)
//			return func() (driver.Store, error) { return mydriver.Open(server.Addr) }
//		}))
//	}
//
// Each case belongs to one rule and says in one line what must hold; a failure
// prints both, and the line of the case that saw it. Cases run at the same
// time, each on an empty store of its own, and most of them use several
// clients of that store.
//
// What a driver can't do is declared in [Features], never left out in silence:
// the documented fallback is then checked instead. What only a broken server
// can show needs the optional hooks of [Store] and [Line]; a case whose hook is
// missing is skipped by name, with the reason.
//
// Nothing here waits for a fixed time to prove something. What must happen is
// waited for, up to [Harness.Patience]; what must not happen is proven by
// something later that was seen first.
package conformance
