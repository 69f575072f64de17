package redact_test

import (
	"fmt"
	"log/slog"

	"github.com/kaizen-go/kaizen/redact"
)

func ExampleRedactor_String() {
	r := redact.New(redact.Config{})
	fmt.Println(r.String("login with password=hunter2 from ada@example.com"))
	fmt.Println(r.String("order 4111111111111111, version 1.2.3.4: left alone"))
	// Output:
	// login with password=[REDACTED:field] from [REDACTED:email]
	// order 4111111111111111, version 1.2.3.4: left alone
}

func ExampleRedactor_Value() {
	r := redact.New(redact.Config{Off: []redact.Detector{redact.Email}})
	fmt.Println(r.Value(map[string]any{"openai_api_key": "k-1", "to": "ada@example.com", "max_tokens": 512}))
	fmt.Println(r.Count())
	// Output:
	// map[max_tokens:512 openai_api_key:[REDACTED:field] to:ada@example.com]
	// map[field:1]
}

func ExampleRedactor_Attr() {
	r := redact.New(redact.Config{})
	fmt.Println(r.Attr(slog.Group("login", slog.String("user", "ada"), slog.String("password", "hunter2"))))
	// Output: login=[user=ada password=[REDACTED:field]]
}

func ExampleDetectors() {
	for _, d := range redact.Detectors() {
		if d == redact.Email {
			fmt.Println(d, d.Marker())
		}
	}
	// Output: email [REDACTED:email]
}
