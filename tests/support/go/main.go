// Renders Go templates as Ollama does: reads jobs as JSON on stdin, writes the texts as JSON to stdout.
//
// A job has a template and conversations. What the template sees is what Ollama's template package hands it:
// .Messages (neighbours of one role joined), .System (all system messages joined), .Response (empty), .Tools (none).
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string
	Content string
}

type job struct {
	Template      string
	Conversations [][]message
}

func collate(messages []message) (string, []*message) {
	var system []string
	var joined []*message
	for i := range messages {
		if messages[i].Role == "system" {
			system = append(system, messages[i].Content)
		}
		if len(joined) > 0 && joined[len(joined)-1].Role == messages[i].Role {
			joined[len(joined)-1].Content += "\n\n" + messages[i].Content
		} else {
			joined = append(joined, &messages[i])
		}
	}
	return strings.Join(system, "\n\n"), joined
}

func main() {
	var jobs []job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		log.Fatal(err)
	}
	texts := make([][]string, len(jobs))
	for i, j := range jobs {
		parsed, err := template.New("").Option("missingkey=zero").Parse(j.Template)
		if err != nil {
			log.Fatal(err)
		}
		for _, conversation := range j.Conversations {
			system, messages := collate(conversation)
			var text strings.Builder
			values := map[string]any{"System": system, "Messages": messages, "Response": "", "Tools": nil}
			if err := parsed.Execute(&text, values); err != nil {
				log.Fatal(err)
			}
			texts[i] = append(texts[i], text.String())
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		log.Fatal(err)
	}
}
